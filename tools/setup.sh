#!/bin/sh
# Installs the Debian packages of tools/packages.txt that are missing; does nothing when none is.
# Asks once when someone is there to answer. On another distribution it names the missing programs
# and stops.
set -eu

here=$(dirname "$0")
list=$here/packages.txt

entries() {
	grep -v -e '^#' -e '^[[:space:]]*$' "$list"
}

is_debian() {
	[ -r /etc/os-release ] && . /etc/os-release && [ "${ID:-}" = debian ] &&
		command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}

missing_packages() {
	entries | while read -r package _; do
		status=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null || true)
		case $status in
		*installed*) [ "$status" = not-installed ] && echo "$package" || : ;;
		*) echo "$package" ;;
		esac
	done
}

missing_programs() {
	entries | while read -r _ probe; do
		case $probe in
		/*) [ -e "$probe" ] || echo "$probe" ;;
		*) command -v "$probe" >/dev/null || echo "$probe" ;;
		esac
	done
}

if ! is_debian; then
	missing=$(missing_programs)
	[ -z "$missing" ] && exit 0
	echo "Roost needs these programs and files, which are missing here:" >&2
	echo "$missing" | sed 's/^/  /' >&2
	echo "Set-up installs them on Debian only; the Debian packages are listed in $list." >&2
	exit 1
fi

missing=$(missing_packages | tr '\n' ' ')
[ -z "$missing" ] && exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	sudo=sudo
	if ! command -v sudo >/dev/null; then
		echo "Roost needs these Debian packages; install them as root:" >&2
		echo "  apt-get install --no-install-recommends $missing" >&2
		exit 1
	fi
fi

echo "Roost needs these Debian packages, which are missing here:"
echo "  $missing" | fold -s -w 90
if [ -t 0 ] && [ -z "${CI:-}" ] && [ -z "${YES:-}" ]; then
	printf 'Install them now? [Y/n] '
	read -r answer || answer=n
	case $answer in
	'' | [Yy]*) ;;
	*) echo "Nothing was installed." >&2; exit 1 ;;
	esac
fi

export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive \
	apt-get install -q -y --no-install-recommends $missing </dev/null
