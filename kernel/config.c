/*
 * The configuration: sections, lines, quotes and comments of roost.conf, and a table of its keys.
 * A new key is a line in that table, a function that reads its value, and a paragraph in
 * docs/configuration.md. The file comes from a boot module, so that any bytes may be in it.
 */
#include "kernel/config.h"

#include "kernel/cpu.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

#define DEFAULT_VM_NAME "vm0"
#define SHARE_UNIT	MiB(2)

struct parser {
	struct config *config;
	const struct boot_info *boot;
	const char *file; /* NULL: none, nothing is logged */
	u32 line;
	struct vm_config *vm; /* the section's; NULL before the first and in one that is left out */
	bool change;	      /* of a VM that is there */
	bool in_section;      /* of whatever kind: without a vm its lines are not looked at */
	u32 vm_line;	      /* where the section began */
	u32 seen;	      /* a bit for each key of the section */
	u32 missing;	      /* a bit for each key without whose value there can be no VM */
};

static void __format_printf(3, 4) mistake_at(struct parser *p, u32 line, const char *fmt, ...) {
	char message[224];
	size_t used = 0;
	va_list args;

	if (p->config->mistakes++ >= CONFIG_ERRORS_MAX) return;
	if (p->vm) used = (size_t)snprintf(message, sizeof(message), "vm %s: ", p->vm->name);
	va_start(args, fmt);
	vsnprintf(message + used, sizeof(message) - used, fmt, args);
	va_end(args);
	if (p->config->mistakes == 1)
		snprintf(p->config->first_mistake, sizeof(message), "%s", message);
	if (p->file) log_warn("%s:%u: %s", p->file, line, message);
}

#define mistake(p, ...) mistake_at(p, (p)->line, __VA_ARGS__)

/* ---- values ---- */

/*
 * Copies a value into the configuration's text. One that begins with a quote ends at the next one,
 * and \" and \\ in it stand for " and \. NULL, reported, when that is not so or there is no room.
 */
static const char *copy_string(struct parser *p, struct text value) {
	struct config *config = p->config;
	bool quoted = value.len && value.at[0] == '"';
	char *to = config->text + config->text_used;
	size_t room = min_u64(CONFIG_STRING_MAX, sizeof(config->text) - config->text_used);
	size_t length = 0, i = quoted;

	for (; i < value.len && !(quoted && value.at[i] == '"'); i++, length++) {
		if (quoted && value.at[i] == '\\' && i + 1 < value.len &&
		    (value.at[i + 1] == '"' || value.at[i + 1] == '\\'))
			i++;
		if (length < room) to[length] = value.at[i];
	}
	if (quoted && i + 1 != value.len) {
		mistake(p, i < value.len
				   ? "text follows the closing quote; expected the end of the line"
				   : "expected a closing quote");
		return NULL;
	}
	if (length >= room) {
		mistake(p, "no room for more text; expected at most %u bytes a value, %u in all",
			CONFIG_STRING_MAX - 1, CONFIG_TEXT_MAX);
		return NULL;
	}
	to[length] = 0;
	config->text_used += (u32)length + 1;
	return to;
}

/* The module of this name; NULL, reported, when there is none. */
static const struct boot_module *find_module(struct parser *p, struct text name) {
	char there[120] = "";

	for (u32 i = 0; i < p->boot->nr_modules; i++) {
		const struct boot_module *module = &p->boot->module[i];

		if (module->fault != MODULE_OK) continue;
		if (text_is(name, module->name)) return module;
		text_list(there, sizeof(there), module->name, "");
	}
	mistake(p, "no usable module has the name %.*s; there is %s", TEXT_QUOTE(name),
		there[0] ? there : "no usable module");
	return NULL;
}

/* What a setter says of its value. One that returns REPORTED has told of the mistake itself. */
enum verdict { GOOD, BAD, REPORTED };

struct key {
	const char *name, *expected;
	enum verdict (*set)(struct parser *p, const struct key *key, struct text value);
	struct text_key value; /* without a setter; with one, for it */
	bool own_quotes;       /* the setter wants to see the quotes */
	bool needed;	       /* without a good value, where one is given, there is no VM */
	bool live;	       /* can be changed while the VM runs */
};

static enum verdict set_module(struct parser *p, const struct key *key, struct text value) {
	const struct boot_module **module = (void *)((u8 *)p->vm + key->value.field);

	*module = find_module(p, value);
	return *module ? GOOD : REPORTED;
}

static enum verdict set_cmdline(struct parser *p, const struct key *key __unused,
				struct text value) {
	const char *string = copy_string(p, value);

	if (string) p->vm->cmdline = string;
	return string ? GOOD : REPORTED;
}

/*
 * Where the first of two characters stands outside of quotes, in which a backslash hides what
 * follows it; the text's length when there is none. With behind_blank it counts at the beginning
 * and after a blank only.
 */
static size_t find_unquoted(struct text text, char a, char b, bool behind_blank) {
	bool quoted = false, here = true;
	size_t i = 0;

	for (; i < text.len; i++) {
		char c = text.at[i];

		if (!quoted && here && (c == a || c == b)) return i;
		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		here = !behind_blank || c == ' ' || c == '\t';
	}
	return text.len;
}

/* Takes what is before the next separator that is not in quotes. False when there was none. */
static bool next_item(struct text *rest, char separator, struct text *item) {
	size_t end = find_unquoted(*rest, separator, separator, false);
	bool more = end < rest->len;

	*item = text_trim((struct text){rest->at, end});
	end += more;
	*rest = (struct text){rest->at + end, rest->len - end};
	return more;
}

static enum verdict add_module(struct parser *p, struct text item) {
	struct vm_config *vm = p->vm;
	struct text name;

	if (!item.len) return BAD;
	if (vm->nr_modules == CONFIG_MAX_MODULES) {
		mistake(p, "too many modules; expected at most %u", CONFIG_MAX_MODULES);
		return REPORTED;
	}
	const char *string = copy_string(p, item);
	if (!string) return REPORTED;
	struct text args = text_of(string);
	if (!text_next_word(&args, &name)) return BAD;
	const struct boot_module *module = find_module(p, name);
	if (!module) return REPORTED;
	/* The copy ends in 0, and so do the arguments at its end. */
	vm->modules[vm->nr_modules++] = (struct config_module){module, text_trim(args).at};
	return GOOD;
}

static enum verdict set_modules(struct parser *p, const struct key *key __unused,
				struct text value) {
	enum verdict verdict;
	struct text item;
	bool more;

	p->vm->nr_modules = 0;
	do {
		more = next_item(&value, ',', &item);
		verdict = add_module(p, item);
	} while (more && verdict == GOOD);
	return verdict;
}

static enum verdict set_memory(struct parser *p, const struct key *key __unused,
			       struct text value) {
	u64 size;

	if (text_to_size(value, &size) || size < CONFIG_MIN_MEMORY || size > MEMMAP_LIMIT ||
	    size % PAGE_SIZE)
		return BAD;
	p->vm->memory = size;
	return GOOD;
}

/* CPUs and ranges of them: 0,2-5. Those that are not here do no harm. */
static enum verdict set_pin(struct parser *p, const struct key *key __unused, struct text value) {
	struct text item, first, last;
	u64 pin = 0;
	u32 from, to;
	bool more;

	do {
		more = next_item(&value, ',', &item);
		if (!text_split(item, '-', &first, &last)) last = first;
		if (text_to_u32(first, 0, 63, &from) || text_to_u32(last, from, 63, &to))
			return BAD;
		pin |= GENMASK(to, from);
	} while (more);
	p->vm->pin = pin;
	return pin & ~0ul >> (64 - nr_cpus) ? GOOD : BAD;
}

#define FIELD(name) .value = {.field = offsetof(struct vm_config, name)}
#define NUMBER(name, least, most) \
	.value = {.field = offsetof(struct vm_config, name), .min = (least), .max = (most)}
#define WORDS(name, ...) \
	.value = {.field = offsetof(struct vm_config, name), .words = {__VA_ARGS__}}

static const struct key keys[] = {
	{"kernel", "the name of a module", set_module, FIELD(kernel), .needed = true},
	{"initrd", "the name of a module", set_module, FIELD(initrd), .needed = true},
	{"cmdline", "text", set_cmdline, .own_quotes = true},
	{"modules", "a list such as: name arguments, name arguments", set_modules,
	 .own_quotes = true, .needed = true},
	{"memory", "a size of at least 2M, such as 512M or 1G", .set = set_memory},
	{"cpus", "a number from 1 to 64", NUMBER(cpus, 1, VM_MAX_VCPUS)},
	{"boot", "auto, linux or multiboot", WORDS(boot, "auto", "linux", "multiboot")},
	{"page-size", "4K, 2M or 1G", WORDS(max_leaf, "4K", "2M", "1G")},
	{"populate", "eager or lazy", WORDS(lazy, "eager", "lazy")},
	{"debug-exit", "yes or no", WORDS(debug_exit, "no", "yes")},
	{"log", "none, com2 or debug-port", WORDS(log, "none", "com2", "debug-port")},
	{"autostart", "yes or no", WORDS(autostart, "no", "yes")},
	{"nested", "on or off", WORDS(nested, "off", "on")},
	{"on-crash", "stop, reset or pause", WORDS(on_crash, "stop", "reset", "pause"),
	 .live = true},
	{"weight", "a number from 1 to 10000", NUMBER(weight, 1, 10000), .live = true},
	{"cap", "a number of percent from 0 to 6400", NUMBER(cap, 0, 6400), .live = true},
	{"tsc-khz", "a number from 10000 to 10000000", NUMBER(tsc_khz, 10000, 10000000)},
	{"pin", "CPUs of this machine, such as 0,2-5", set_pin, .live = true},
};

/* ---- lines ---- */

static void set_key(struct parser *p, u32 number, struct text value) {
	const struct key *key = &keys[number];
	u32 bit = 1u << number;
	struct text bare = value;

	_Static_assert(ARRAY_SIZE(keys) <= 32, "a bit for each key");
	if (p->change && !key->live) {
		mistake(p, "%s cannot be changed any more", key->name);
		return;
	}
	if (p->seen & bit) mistake(p, "%s is given twice; the second one counts", key->name);
	p->seen |= bit;
	p->missing &= ~bit;
	if (!key->own_quotes && value.len >= 2 && value.at[0] == '"' &&
	    value.at[value.len - 1] == '"')
		bare = (struct text){value.at + 1, value.len - 2};
	enum verdict verdict = key->set				    ? key->set(p, key, bare)
			       : text_set(bare, &key->value, p->vm) ? GOOD
								    : BAD;
	if (verdict == BAD)
		mistake(p, "%s cannot be %.*s; expected %s", key->name, TEXT_QUOTE(value),
			key->expected);
	if (verdict != GOOD && key->needed) p->missing |= bit;
}

static void parse_key(struct parser *p, struct text line) {
	struct text name, value;
	char known[192] = "";

	if (!text_split(line, '=', &name, &value)) {
		mistake(p, "%.*s is no setting; expected key = value", TEXT_QUOTE(line));
		return;
	}
	name = text_trim(name);
	value = text_trim(value);
	for (u32 i = 0; i < ARRAY_SIZE(keys); i++) {
		if (text_is(name, keys[i].name)) {
			set_key(p, i, value);
			return;
		}
		text_list(known, sizeof(known), keys[i].name, "");
	}
	mistake(p, "unknown key %.*s; expected %s", TEXT_QUOTE(name), known);
}

/* Takes the last VM out again when it cannot be made. */
static void end_section(struct parser *p) {
	struct vm_config *vm = p->vm;

	if (!vm) return;
	if (!vm->kernel && !p->missing)
		mistake_at(p, p->vm_line, "no kernel; expected kernel = module");
	if (!vm->kernel || p->missing) {
		mistake_at(p, p->vm_line, "left out");
		p->config->nr_vms--;
	} else if (!vm->cmdline) {
		vm->cmdline = vm->kernel->args;
	}
	p->vm = NULL;
}

static bool name_is_good(struct text name) {
	for (size_t i = 0; i < name.len; i++) {
		char c = name.at[i];
		bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
		bool digit = c >= '0' && c <= '9';

		if (!letter && !digit && c != '-' && c != '_' && c != '.') return false;
	}
	return name.len && name.len < VM_NAME_MAX;
}

static bool name_is_taken(const struct config *config, struct text name) {
	for (u32 i = 0; i < config->nr_vms; i++)
		if (text_is(name, config->vm[i].name)) return true;
	return false;
}

static void vm_defaults(struct vm_config *vm, const char *name, size_t length) {
	memset(vm, 0, sizeof(*vm));
	memcpy(vm->name, name, length);
	vm->cpus = 1;
	vm->weight = CONFIG_WEIGHT;
	vm->pin = ~0ul;
	vm->max_leaf = CONFIG_MAX_LEAF;
	vm->autostart = true;
	vm->nested = true;
}

static void begin_vm(struct parser *p, struct text name) {
	struct config *config = p->config;

	if (!name_is_good(name)) {
		mistake(p, "%.*s cannot be the name of a VM; expected 1 to %u of A-Z a-z 0-9 - _ .",
			TEXT_QUOTE(name), VM_NAME_MAX - 1);
	} else if (name_is_taken(config, name)) {
		mistake(p,
			"there is a VM %.*s already; expected another name, this one is left out",
			TEXT_QUOTE(name));
	} else if (config->nr_vms == CONFIG_MAX_VMS) {
		mistake(p, "too many VMs; expected at most %u", CONFIG_MAX_VMS);
	} else {
		p->vm = &config->vm[config->nr_vms++];
		vm_defaults(p->vm, name.at, name.len);
	}
}

static void parse_section(struct parser *p, struct text line) {
	struct text inside = {line.at + 1, line.len - 1};
	struct text kind;

	end_section(p);
	p->in_section = true;
	p->missing = 0;
	p->seen = 0;
	p->vm_line = p->line;
	if (!inside.len || inside.at[inside.len - 1] != ']') {
		mistake(p, "%.*s is no section; expected [vm NAME]", TEXT_QUOTE(line));
		return;
	}
	inside.len--;
	struct text name = inside;
	if (!text_next_word(&name, &kind) || !text_is(kind, "vm")) {
		mistake(p, "unknown section %.*s; expected [vm NAME]", TEXT_QUOTE(line));
		return;
	}
	begin_vm(p, text_trim(name));
}

static bool is_printable(struct text line) {
	for (size_t i = 0; i < line.len; i++)
		if (((u8)line.at[i] < ' ' && line.at[i] != '\t') || line.at[i] == 0x7f)
			return false;
	return true;
}

static void parse_line(struct parser *p, struct text line) {
	line.len = find_unquoted(line, '#', ';', true);
	line = text_trim(line);
	if (!line.len) return;
	if (!is_printable(line))
		mistake(p, "there are control characters; expected text");
	else if (line.at[0] == '[')
		parse_section(p, line);
	else if (p->vm)
		parse_key(p, line);
	else if (!p->in_section)
		mistake(p, "%.*s stands before any section; expected [vm NAME]", TEXT_QUOTE(line));
}

static void config_init(struct config *config) {
	config->nr_vms = 0;
	config->mistakes = 0;
	config->text_used = 0;
}

u32 config_parse(const char *file, struct text text, const struct boot_info *boot,
		 struct config *out) {
	struct parser p = {.config = out, .boot = boot, .file = file};
	struct text line;
	bool more;

	config_init(out);
	/* Some editors put a byte order mark in front. */
	if (text.len >= 3 && !memcmp(text.at, "\xef\xbb\xbf", 3))
		text = (struct text){text.at + 3, text.len - 3};
	do {
		more = text_split(text, '\n', &line, &text);
		p.line++;
		parse_line(&p, line);
	} while (more);
	end_section(&p);
	if (out->mistakes > CONFIG_ERRORS_MAX)
		log_warn("%s: %u mistakes more", file, out->mistakes - CONFIG_ERRORS_MAX);
	return out->mistakes;
}

u32 config_parse_words(struct text name, struct text words, const struct vm_config *from,
		       const struct boot_info *boot, struct config *out) {
	struct parser p = {.config = out, .boot = boot, .change = from};
	struct text word;
	bool more = true;

	config_init(out);
	begin_vm(&p, name);
	if (from && p.vm) *p.vm = *from;
	while (p.vm && more) {
		more = next_item(&words, ' ', &word);
		if (word.len && !is_printable(word))
			mistake(&p, "there are control characters; expected text");
		else if (word.len)
			parse_key(&p, word);
	}
	if (!from) end_section(&p);
	return out->mistakes;
}

void config_default(const struct boot_info *boot, struct config *out) {
	struct vm_config *vm = &out->vm[0];

	config_init(out);
	if (!boot->nr_modules) {
		/* Nothing was given to run: the guest inside the image shows that it works. */
		vm_defaults(vm, "demo", sizeof("demo"));
		vm->memory = MiB(32);
		vm->cmdline = "";
		out->nr_vms = 1;
		return;
	}
	vm_defaults(vm, DEFAULT_VM_NAME, sizeof(DEFAULT_VM_NAME));
	vm->cpus = 0;
	for (u32 i = 0; i < boot->nr_modules; i++) {
		const struct boot_module *module = &boot->module[i];

		if (module->fault != MODULE_OK) continue;
		if (!vm->kernel)
			vm->kernel = module;
		else if (!vm->initrd)
			vm->initrd = module;
		else
			log_warn(
				"module %s is not used: more than a kernel and an initrd need a %s",
				module->name, CONFIG_FILE);
	}
	if (!vm->kernel) return;
	vm->cmdline = vm->kernel->args;
	out->nr_vms = 1;
}

/* Roost keeps 16 MiB and a sixty-fourth: a nested table of 4 KiB pages needs half of that. */
void config_share_memory(struct config *config, u64 free) {
	u64 kept = MiB(16) + free / 64;
	u32 sharers = 0;

	for (u32 i = 0; i < config->nr_vms; i++) {
		sharers += !config->vm[i].memory;
		if (__builtin_add_overflow(kept, config->vm[i].memory, &kept)) kept = ~0ul;
	}
	if (!sharers) return;
	u64 share = kept < free ? align_down((free - kept) / sharers, SHARE_UNIT) : 0;
	for (u32 i = 0; i < config->nr_vms; i++)
		if (!config->vm[i].memory) config->vm[i].memory = share;
}
