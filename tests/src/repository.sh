# Makes a repository of Debian packages in $OUT/debian: what the system in $TARBALL, of release
# $FROM, needs to become $TO. The packages are downloaded with apt, from the mirror that the system
# was made from; the system's own list of packages decides which.
set -eu
work=$OUT.work
rm -rf "$work" "$OUT.new"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$OUT.new/debian/pool"
tar -C "$work" --strip-components=1 -xf "$TARBALL" \
    ./etc/apt ./var/lib/dpkg/status ./var/lib/apt/extended_states
find "$work/etc/apt/sources.list" "$work/etc/apt/sources.list.d" -type f \
    -exec sed -i "s/\b$FROM\b/$TO/g" {} +
cat > "$work/apt.conf" <<END
Dir::Etc "$work/etc/apt";
Dir::State "$work/var/lib/apt";
Dir::State::status "$work/var/lib/dpkg/status";
Dir::State::Lists "$work/lists";
Dir::Cache "$work";
Dir::Cache::Archives "$work/archives";
Dir::Etc::Trusted "/etc/apt/trusted.gpg";
Dir::Etc::TrustedParts "/etc/apt/trusted.gpg.d";
APT::Architecture "amd64";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
END
apt-get -qq -c "$work/apt.conf" -o APT::Update::Error-Mode=any update
apt-get -qq -c "$work/apt.conf" --yes --download-only dist-upgrade >&2
mv "$work"/archives/*.deb "$OUT.new/debian/pool/"
cd "$OUT.new/debian"
for release in "$FROM" "$TO"; do
    mkdir -p "dists/$release/main/binary-amd64"
    : > "dists/$release/main/binary-amd64/Packages"
done
dpkg-scanpackages --multiversion pool 2> /dev/null > "dists/$TO/main/binary-amd64/Packages"
grep -q ^Package: "dists/$TO/main/binary-amd64/Packages"
rm -rf "$work"
mv "$OUT.new" "$OUT"
