/* Options: a line in the table at the end, and a paragraph in docs/configuration.md. */
#include "kernel/cmdline.h"

#include "boot/bootinfo.h"

#define UART_CLOCK 115200u /* the highest speed; every other one divides it */
#define UART_PORTS 8

/* One item of console=. A speed belongs to the serial port before it. */
static bool console_item(struct text item, struct options *out) {
	static const char *const names[] = {"com1", "com2", "com3", "com4"};
	static const u16 ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
	int named = text_choose(item, names, ARRAY_SIZE(names));
	bool hex = item.len > 2 && item.at[0] == '0' && (item.at[1] | 0x20) == 'x';
	u32 value;

	if (text_is(item, "screen")) {
		out->console_screen = true;
		return true;
	}
	if (!hex && !text_to_u32(item, 1, UART_CLOCK, &value)) {
		if (!out->console_serial || out->console_baud || UART_CLOCK % value) return false;
		out->console_baud = value;
		return true;
	}
	if (named >= 0)
		value = ports[named];
	else if (!hex || text_to_u32(item, 1, 0x10000 - UART_PORTS, &value))
		return false;
	/* There is one serial console only. */
	if (out->console_serial) return false;
	out->console_serial = true;
	out->console_port = (u16)value;
	return true;
}

static bool set_console(struct text value, struct options *out) {
	struct text item;
	bool more;

	out->console_serial = false;
	out->console_screen = false;
	out->console_port = 0;
	out->console_baud = 0;
	if (text_is(value, "none")) return true;
	do {
		more = text_split(value, ',', &item, &value);
		if (!console_item(item, out)) return false;
	} while (more);
	return true;
}

static bool set_vmx(struct text value, struct options *out) {
	out->vmx = value;
	return value.len;
}

#define FIELD(name) .field = offsetof(struct options, name)

/* A setter may leave *out half changed when it returns false: it works on a copy. */
static const struct option {
	const char *name, *expected;
	bool (*set)(struct text value, struct options *out); /* NULL: by `key` */
	struct text_key key;
} table[] = {
	{"console",
	 "none, or a list of com1 to com4 or a port (0x3f8), its speed (115200), and screen",
	 .set = set_console},
	{"loglevel", "error, warn, info or debug",
	 .key = {FIELD(log_level), .words = {"error", "warn", "info", "debug"}}},
	{"cpus", "a number from 1 to 64",
	 .key = {FIELD(max_cpus), .min = 1, .max = OPTIONS_MAX_CPUS}},
	{"on-idle", "shell, poweroff or reboot",
	 .key = {FIELD(on_idle), .words = {"shell", "poweroff", "reboot"}}},
	{"debug-exit", "an I/O port such as 0xf4, or 0 for none",
	 .key = {FIELD(debug_exit), .max = 0xffff}},
	{"vmx", "a list such as -vpid,-ept-ad", .set = set_vmx},
};

/* One word; *seen has a bit for each line of the table that was met already. */
static void parse_word(struct text word, u32 *seen, struct options *options) {
	struct options changed = *options;
	struct text name, value;
	bool has_value = text_split(word, '=', &name, &value);
	char known[128] = "";

	for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
		const struct option *option = &table[i];

		text_list(known, sizeof(known), option->name, "=");
		if (!text_is(name, option->name)) continue;
		if (!has_value || !(option->set ? option->set(value, &changed)
						: text_set(value, &option->key, &changed))) {
			log_warn("command line: %.*s ignored; expected %s= and %s",
				 TEXT_QUOTE(word), option->name, option->expected);
			return;
		}
		if (*seen & 1u << i)
			log_warn("command line: %s= is given more than once, %.*s counts",
				 option->name, TEXT_QUOTE(value));
		*seen |= 1u << i;
		*options = changed;
		return;
	}
	log_warn("command line: unknown word %.*s; there are %s", TEXT_QUOTE(word), known);
}

void options_parse(const struct boot_info *boot, struct options *options) {
	struct text rest = text_of(boot->cmdline);
	struct text word;
	u32 seen = 0;

	_Static_assert(ARRAY_SIZE(table) <= 32, "a bit of seen for each option");
	*options = (struct options){
		.console_serial = true,
		.console_screen = true,
		.log_level = LOG_INFO,
		.max_cpus = OPTIONS_MAX_CPUS,
		.on_idle = IDLE_SHELL,
	};
	if (boot->cmdline_has_name) (void)text_next_word(&rest, &word);
	while (text_next_word(&rest, &word)) parse_word(word, &seen, options);
}
