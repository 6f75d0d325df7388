#!/bin/sh
# Writes the assembly source of the table by which a panic names functions: for each function of the
# image its offset from the start of the code, and its name. Usage: symbols.sh IMAGE
set -eu
base=$("$NM" "$1" | awk '$3 == "text_start" { print $1 }')
printf '\t.section .rodata.symbols, "a"\n\t.globl symbol_table, symbol_table_end\n\t.balign 8\nsymbol_table:\n'
"$NM" -n "$1" | awk -v base="$base" '
	$2 ~ /^[tT]$/ && $1 >= base && $3 !~ /^(text_start|text_end)$/ && !seen[$1]++ {
		printf "\t.long 0x%s - 0x%s\n\t.byte 1f - 0f\n0:\t.ascii \"%s\"\n1:\n", $1, base, substr($3, 1, 60)
	}'
printf 'symbol_table_end:\n'
