#!/bin/sh
# make_initramfs.sh OUTPUT: the guest's initial file system: busybox and tools/initramfs/init. The
# same busybox gives the same bytes.
set -eu

output=$1
here=$(cd "$(dirname "$0")" && pwd)
busybox=${BUSYBOX:-/bin/busybox}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin" "$root/dev" "$root/proc" \
	"$root/sys" "$root/tmp" "$root/root" "$root/etc"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
"$busybox" --list-full | while read -r applet; do
	case $applet in
	bin/busybox | */*/*/*) continue ;;
	esac
	[ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
done
cp "$here/initramfs/init" "$root/init"
chmod 755 "$root/init"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
cp "$here/initramfs/profile" "$root/etc/profile"
find "$root" -exec touch -h -d @0 {} +

mkdir -p "$(dirname "$output")"
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort |
	cpio --quiet --reproducible --owner=0:0 -o -H newc) >"$output.tmp"
mv "$output.tmp" "$output"
