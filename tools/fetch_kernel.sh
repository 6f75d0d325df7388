#!/bin/sh
# fetch_kernel.sh OUTPUT: writes Debian's cloud kernel to OUTPUT and its version to OUTPUT.version.
# The package comes from this machine's /boot when it is installed, else from apt; it is kept in the
# directory $CACHE and unpacked, never installed.
set -eu

output=$1
cache=${CACHE:?directory for downloaded packages}
meta=linux-image-cloud-amd64

[ -s "$output" ] && exit 0
mkdir -p "$cache" "$(dirname "$output")"

# The image package that the meta package stands for.
resolve() {
	apt-cache depends "$meta" 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*-cloud-amd64\)$/\1/p' | head -n 1
}

download() {
	package=$(resolve)
	[ -n "$package" ] || return 1
	# As root apt would drop to a user that may not write here.
	(cd "$cache" && apt-get download -q -o APT::Sandbox::User="$(id -un)" "$package")
}

update_lists() {
	if [ "$(id -u)" = 0 ]; then apt-get update -q; else sudo apt-get update -q; fi
}

newest_deb() {
	ls -t "$cache"/linux-image-*-cloud-amd64_*.deb 2>/dev/null | head -n 1
}

install_kernel() { # from, version
	echo "$2" >"$output.version"
	cp "$1" "$output.tmp"
	mv "$output.tmp" "$output"
}

deb=$(newest_deb)
if [ -z "$deb" ]; then
	installed=$(ls /boot/vmlinuz-*-cloud-amd64 2>/dev/null | sort -V | tail -n 1)
	if [ -n "$installed" ] && [ -r "$installed" ]; then
		install_kernel "$installed" "${installed#/boot/vmlinuz-}"
		exit 0
	fi
	if ! command -v apt-get >/dev/null; then
		echo "No Debian kernel here and no apt to fetch one: give your own with KERNEL=..." >&2
		exit 1
	fi
	download || { update_lists && download; } || {
		echo "Could not download $meta; is this machine offline?" >&2
		exit 1
	}
	deb=$(newest_deb)
fi

unpacked=$cache/unpacked.$$
trap 'rm -rf "$unpacked"' EXIT
dpkg-deb -x "$deb" "$unpacked"
version=$(basename "$deb" | sed 's/^linux-image-//; s/_[^_]*\.deb$//; s/%3a/:/')
install_kernel "$(ls "$unpacked"/boot/vmlinuz-* | head -n 1)" "$version"
