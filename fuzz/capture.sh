#!/bin/bash
# capture.sh PACKAGES: makes those inputs of corpus/ that real programs and packages of Debian make. PACKAGES holds
# linux-image and systemd-boot-efi as .deb, as `make image` leaves them in target/packages/RELEASE/archives. The other
# inputs are texts that were captured once.
#
# Of an image only what the parsers read of it is kept: see src/device.rs.
set -euo pipefail
cd "$(dirname "$0")"
packages=${1:?"the directory of the packages"}
corpus=$PWD/corpus
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --locked -p fuzz --bin capture
capture=../target/x86_64-unknown-linux-gnu/debug/capture
uuid=5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55

# device NAME SIZE TARGETS COMMAND...: the command gets an image as its last argument.
device() {
    local name=$1 size=$2 targets=$3
    shift 3
    truncate -s 0 "$work/$name.image"
    truncate -s "$size" "$work/$name.image"
    "$@" "$work/$name.image" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    for target in $targets; do
        mkdir -p "$corpus/$target"
        "$capture" "$target" "$work/$name.image" "$corpus/$target/$name"
    done
    rm "$work/$name.image"
}
table() { sfdisk --quiet "$1" <"$work/script"; }

both='super_block block_copy'
device ext4 64M "$both" mke2fs -qFt ext4 -L root -U $uuid
device ext4-1k 16M "$both" mke2fs -qFt ext4 -b 1024 -U $uuid
device ext4-plain 4M "$both" mke2fs -qFt ext4 -O '^metadata_csum,^uninit_bg,^64bit' -b 1024 -U $uuid
device ext4-meta-bg 64M block_copy mke2fs -qFt ext4 -O 'meta_bg,^resize_inode' -b 1024 -U $uuid
device ext4-bigalloc 64M block_copy mke2fs -qFt ext4 -O bigalloc -C 65536 -U $uuid
device ext3 16M "$both" mke2fs -qFt ext3 -b 1024 -O '^sparse_super,^resize_inode' -U $uuid
device ext2 8M "$both" mke2fs -qFt ext2 -g 256 -b 1024 -U $uuid
device xfs 320M "$both" mkfs.xfs -q -L root -m uuid=$uuid
device xfs-1k 640M block_copy mkfs.xfs -q -b size=1024 -d agcount=7 -m uuid=$uuid
device xfs-4 320M block_copy mkfs.xfs -q -m crc=0
device btrfs 128M super_block mkfs.btrfs -q -L root -U $uuid
device fat32 64M super_block mkfs.fat -F 32 -n LIFEBOAT -i 1234abcd
device fat16 16M super_block mkfs.fat -F 16 -n SIXTEEN -i 1234abcd
device fat12 2M super_block mkfs.fat -F 12 -i 1234abcd
device fat32-4k 320M super_block mkfs.fat -F 32 -S 4096 -i 1234abcd
device swap 8M super_block mkswap -L pages -U $uuid
device swap-64k 8M super_block mkswap -p 65536 -U $uuid
device gpt 64M 'super_block partition_table' sgdisk -U $uuid -n1:2048:+1M -t1:ef00 -c1:EFI -n3:8192:+8M -t3:8300
printf 'label: dos\nlabel-id: 0x1234abcd\nsize=8M, type=ef\ntype=5\nsize=8M\nsize=8M\n' >"$work/script"
device mbr 64M 'super_block partition_table' table
backup() { sgdisk -U $uuid -n1:2048:+1M "$1" && dd if=/dev/zero of="$1" bs=512 seek=1 count=1 conv=notrunc; }
device gpt-backup 8M partition_table backup

mkdir -p "$corpus/grub_environment"
environment=$corpus/grub_environment
rm -f "$environment"/*
grub-editenv "$environment/empty" create
grub-editenv "$environment/trial" create
grub-editenv "$environment/trial" set trial=1 tried=1 attempts=2 previous=0003
grub-editenv "$environment/escapes" create
grub-editenv "$environment/escapes" set 'saved_entry=a\b>1' 'other=two words'

extract() { dpkg-deb --fsys-tarfile "$packages"/$1 | tar -xOf - --wildcards "$2"; }
mkdir -p "$corpus/boot_image" "$corpus/module_lists" "$corpus/unified_kernel_image"
extract 'linux-image-*_amd64.deb' './boot/vmlinuz-*' >"$work/vmlinuz"
# The fields of its header and its version, without the code between them.
python3 - "$work/vmlinuz" "$corpus/boot_image/bzimage" <<'CUT'
import struct, sys
image = open(sys.argv[1], "rb").read(1 << 16)
version = 0x200 + struct.unpack_from("<H", image, 0x20E)[0]
end = image.index(b"\0", version) + 1
cut = bytearray(end)
cut[0x1F1:0x210] = image[0x1F1:0x210]
cut[version:end] = image[version:end]
open(sys.argv[2], "wb").write(cut)
CUT
head -c 1200 /bin/true >"$corpus/boot_image/program"
mkdir -p "$work/cpio/kernel/x86/microcode"
head -c 300 /bin/true >"$work/cpio/kernel/x86/microcode/GenuineIntel.bin"
{
    (cd "$work/cpio" && find . | cpio --quiet -o -H newc --reproducible)
    printf '\x28\xb5\x2f\xfd'
} >"$corpus/boot_image/microcode"

# The stub without what takes space: its headers are as the linker made them.
extract 'systemd-boot-efi_*_amd64.deb' './usr/lib/systemd/boot/efi/linuxx64.efi.stub' >"$work/stub"
objcopy --remove-section .text --remove-section .rodata --remove-section .data --remove-section .reloc \
    --remove-section .dynamic --remove-section .dynsym --remove-section .rela \
    "$work/stub" "$corpus/unified_kernel_image/systemd-stub"
printf 'quiet' >"$work/cmdline"
printf 'ID=debian\n' >"$work/osrel"
objcopy --add-section .osrel="$work/osrel" --change-section-vma .osrel=0x20000 \
    --add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$corpus/unified_kernel_image/systemd-stub" --change-section-vma .linux=0x40000 \
    "$corpus/unified_kernel_image/systemd-stub" "$corpus/unified_kernel_image/objcopy"
find "$corpus" -type f -size +64k -printf 'too large: %p\n'
