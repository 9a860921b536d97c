# The one entry. Every target installs what it needs on a Debian with Rust; see README.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build

OUT     := target/lifeboat
TRIPLE  := x86_64-unknown-linux-gnu
RELEASE ?= bookworm

DESTDIR ?=
PREFIX  ?= /usr/local
ZSH_DIR ?= $(PREFIX)/share/zsh/site-functions

export LIFEBOAT_BE    := $(CURDIR)/$(OUT)/be
export LIFEBOAT_IMAGE := $(CURDIR)/$(OUT)

.PHONY: build image install deb demo picture test test-all bench fuzz check manual clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t12

# The rescue image's one binary is a build of its own: /init and /bin/be. An installed system has it as the menu.
build: ## the static programs: target/lifeboat/be, and rescue-init with the menu
	@scripts/requirements build
	cargo build --locked --release -p be-tools --bin be
	cargo build --locked --release -p rescue-init
	@mkdir -p $(OUT)
	@install -m 755 target/$(TRIPLE)/release/be $(OUT)/be
	@install -m 755 target/$(TRIPLE)/release/rescue-init $(OUT)/rescue-init

image: build ## the rescue image: target/lifeboat/lifeboat.efi and lifeboat.img
	@scripts/requirements image
	cargo build --locked --profile fast -p image-builder
	@install -m 755 target/$(TRIPLE)/fast/image-builder $(OUT)/image-builder
	target/$(TRIPLE)/fast/image-builder build --release $(RELEASE) --binary $(OUT)/rescue-init --output $(OUT)

install: build ## the program, its manual pages and completions in PREFIX=/usr/local, below DESTDIR
	@scripts/install $(OUT) "$(DESTDIR)" "$(PREFIX)" "$(ZSH_DIR)"

deb: build image ## Debian packages, the program and the rescue image: target/deb
	@scripts/requirements deb
	@mkdir -p target/deb
	DEB_DIR=$(CURDIR)/target/deb DEB_RULES_REQUIRES_ROOT=no debian/rules clean binary

demo: build image ## a Debian that no longer boots, and the rescue image that brings it up
	@scripts/requirements test
	cargo run --locked --profile fast -p tests --bin demo

picture: build image ## docs/menu.png, the picture of the menu in README
	@scripts/requirements test
	cargo run --locked --profile fast -p tests --bin demo -- --picture docs/menu.png

check: ## formatting, clippy, licences, advisories
	@scripts/requirements build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features fuzz/libfuzzer -- -D warnings
	cargo test --locked --profile fast -p tests --test licences --test house --test documents
	@scripts/advisories

test: build image deb ## all but the slow scenarios
	@scripts/requirements test
	cargo test --locked --workspace --profile fast

test-all: test ## everything, ending with a table of scenario x release
	cargo test --locked --workspace --profile fast -- --ignored
	cargo test --locked --profile fast -p tests --test scenarios -- --all

# PART="copying scale" runs these parts; most of them do without the rescue image. ROUNDS=5 measures five times.
bench: build $(if $(filter-out listing copying refreshing scale,$(or $(PART),all)),image) ## size and speed beside other tools, into docs/PERFORMANCE.md
	@scripts/requirements bench
	cargo build --locked --release -p be-tools --bin be-engine
	@install -m 755 target/$(TRIPLE)/release/be-engine $(OUT)/be-engine
	cargo run --locked --profile fast -p tests --bin bench -- $(PART)

# libFuzzer needs only the coverage that the compiler itself can add, so a stable one will do. RUNS=10000000 instead
# of SECONDS, or with it as a limit; TARGET=efi for the targets with that word in their names.
COVERAGE := -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares

fuzz: ## the parsers of foreign bytes under libFuzzer: SECONDS=60 for each, TARGET=word for some
	@scripts/requirements fuzz
	RUSTFLAGS="$(COVERAGE)" cargo build --locked --profile fuzz --target-dir target/fuzz -p fuzz --features linked --bin fuzz-target
	cargo build --locked -p fuzz --bin fuzz-all
	@target/$(TRIPLE)/debug/fuzz-all target/fuzz/$(TRIPLE)/fuzz/fuzz-target \
	    $(foreach name,SECONDS RUNS TARGET,$(if $($(name)),$(name)=$($(name))))

# A test makes the pages, and fails where they are out of date: the program does not carry what makes them.
manual: ## the manual's pages on every verb, and with mdbook the book in target/manual
	@scripts/requirements build
	LIFEBOAT_MANUAL=write cargo test --locked --profile fast -p be-tools --lib verb_pages
	@if command -v mdbook >/dev/null; then mdbook build --dest-dir $(CURDIR)/target/manual docs/manual; \
	else echo 'no book in target/manual: cargo install --locked mdbook makes it possible'; fi

clean: ## everything that was built
	rm -rf target
	@if command -v dh_clean >/dev/null; then dh_clean; fi
