#!/bin/sh
# pack.sh DIRECTORY KERNEL INITRD: makes DIRECTORY/initrd.img, the initial file system of an L1: INITRD
# with the modules of KVM of the kernel's package, DIRECTORY/monitor, the job, and KERNEL and INITRD
# themselves for its L2.
set -eu

out=$1
kernel=$2
initrd=$3
here=$(cd "$(dirname "$0")" && pwd)
cache=${CACHE:?directory for downloaded packages}
version=$(cat "$kernel.version")

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
mkdir -p "$root/nested" "$root/jobs"
deb=$(ls -t "$cache/linux-image-$version"_*.deb 2>/dev/null | head -n 1)
if [ -n "$deb" ]; then
	dpkg-deb -x "$deb" "$root/unpacked"
	modules=$root/unpacked/lib/modules/${version%%_*}
else
	modules=/lib/modules/${version%%_*}
fi
for name in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd arch/x86/kvm/kvm-intel; do
	cp "$modules/kernel/$name.ko" "$root/nested/"
done
rm -rf "$root/unpacked"
cp "$out/monitor" "$kernel" "$initrd" "$root/nested/"
cp "$here/job" "$root/jobs/nested"
chmod 755 "$root/nested/monitor"
find "$root" -exec touch -h -d @0 {} +
{
	cat "$initrd"
	(cd "$root" && find . -mindepth 1 | LC_ALL=C sort |
		cpio --quiet --reproducible --owner=0:0 -o -H newc)
} >"$out/initrd.img.tmp"
mv "$out/initrd.img.tmp" "$out/initrd.img"
