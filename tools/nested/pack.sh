#!/bin/sh
# pack.sh OUTPUT KERNEL INITRD [QEMU]: makes OUTPUT, the initial file system of an L1: INITRD with the
# modules of KVM of the kernel's package, the monitor beside OUTPUT, the job, and KERNEL and INITRD
# themselves for its L2. With QEMU, the path of a qemu-system-x86_64, also that with its libraries and
# firmware.
set -eu

output=$1
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
cp "$(dirname "$output")/monitor" "$kernel" "$initrd" "$root/nested/"
cp "$here/job" "$root/jobs/nested"
chmod 755 "$root/nested/monitor"
if [ -n "${4-}" ]; then
	mkdir -p "$root/lib64"
	cp -L "$4" "$root/nested/qemu"
	ldd "$4" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | xargs -I '{}' cp -L '{}' "$root/nested/"
	cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
	cp -L /usr/share/seabios/bios-256k.bin /usr/share/qemu/linuxboot_dma.bin \
		/usr/share/qemu/kvmvapic.bin "$root/nested/"
fi
find "$root" -exec touch -h -d @0 {} +
{
	cat "$initrd"
	(cd "$root" && find . -mindepth 1 | LC_ALL=C sort |
		cpio --quiet --reproducible --owner=0:0 -o -H newc)
} >"$output.tmp"
mv "$output.tmp" "$output"
