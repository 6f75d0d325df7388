/*
 * The line editor, the parser of parameters, completion, and running a command. All of it belongs
 * to one CPU at a time (kernel/host_io.c), so there is no lock.
 *
 * The editor draws with characters, blanks and backspaces alone, which every terminal knows.
 */
#include "kernel/shell.h"

#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/log.h"
#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/printf.h"
#include "lib/string.h"

#define CTRL(letter) ((letter)&0x1f)
#define ESC	     0x1b
#define DELETE	     0x7f
#define NR_HISTORY   16u
#define PROMPT	     "roost> "
#define QUESTION     "guests are there; really? (y/n) "
#define WORD(text)   (int)(text).len, (text).at

struct line {
	char at[SHELL_LINE_MAX];
	u32 len;
};

static struct line line, history[NR_HISTORY];
static u32 cursor;
static u32 newest, shown;  /* lines ever put into the history; the one being looked at */
static bool too_long;	   /* more was typed than a line holds: it is not run */
static u8 escape;	   /* 0, ESC, or '[' within a sequence */
static u8 argument;	   /* the first digit of that sequence */
static u8 previous;	   /* byte of input */
static bool batch, report; /* the latter when the command began */
static bool asking;	   /* the line is the answer whether to run `asked` */
static struct line asked;
static char message[160];

static const struct command *waiting; /* to be run by another CPU */
static struct shell_args args;

static void show(const char *text, size_t len) { log_show(SHOW_SHELL, text, len); }

void shell_print(const char *fmt, ...) {
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len > 0) show(text, min_u64((u64)len, sizeof(text) - 1));
}

int shell_error(int error, const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return error;
}

void shell_set_batch(bool on) { batch = on; }

/* ---- parameters ---- */

static struct text text_of_line(const struct line *from) {
	return (struct text){from->at, from->len};
}

/* True when a begins with b. */
static bool begins(struct text a, struct text b) {
	return a.len >= b.len && !memcmp(a.at, b.at, b.len);
}

static bool same(struct text a, struct text b) { return a.len == b.len && begins(a, b); }

/* The command whose name the text begins with, and the text behind it in *rest. */
static const struct command *find(struct text text, struct text *rest) {
	for (u32 i = 0; i < nr_commands; i++) {
		struct text name = text_of(commands[i].name), want, got;
		bool found = true;

		*rest = text;
		while (found && text_next_word(&name, &want))
			found = text_next_word(rest, &got) && same(got, want);
		if (found) return &commands[i];
	}
	return NULL;
}

static int parse_vm(struct text word) {
	for (u32 i = 0; (args.vm = guests_get(i)); i++)
		if (text_is(word, args.vm->name)) return 0;
	return shell_error(E_NOENT, "there is no VM '%.*s'", WORD(word));
}

static int parse_number(struct text word, u64 *value) {
	int err = text_to_size(word, value);

	if (!err) return 0;
	return shell_error(err, "'%.*s' is %s", WORD(word),
			   err == E_RANGE ? "too large" : "no number");
}

static int parse_vcpu(struct text word) {
	u64 id;
	int err = parse_number(word, &id);

	if (err) return err;
	if (id >= args.vm->nr_vcpus)
		return shell_error(E_NOENT, "the vCPUs of '%s' are 0 to %u", args.vm->name,
				   args.vm->nr_vcpus - 1);
	args.vcpu = args.vm->vcpus[id];
	return 0;
}

static int parse_choice(struct text words, struct text word) {
	struct text rest = words, one;

	for (args.choice = 0; rest.len; args.choice++) {
		text_split(rest, '|', &one, &rest);
		if (same(one, word)) return 0;
	}
	return shell_error(E_INVAL, "'%.*s' is none of %.*s", WORD(word), WORD(words));
}

static bool is_choice(struct text kind) {
	struct text before, after;

	return text_split(kind, '|', &before, &after);
}

static int parse_one(struct text kind, struct text word) {
	if (text_is(kind, "VM")) return parse_vm(word);
	if (text_is(kind, "VCPU")) return parse_vcpu(word);
	if (is_choice(kind)) return parse_choice(kind, word);
	args.word = word;
	if (text_is(kind, "NAME")) return 0;
	return parse_number(word, &args.number[args.nr_numbers++]);
}

/* Takes the next kind of parameter, without its brackets, off the front of *params. */
static bool next_kind(struct text *params, struct text *kind, bool *optional) {
	if (!text_next_word(params, kind)) return false;
	*optional = kind->at[0] == '[';
	if (*optional) *kind = (struct text){kind->at + 1, kind->len - 2};
	return true;
}

static int parse(const struct command *command, struct text rest) {
	struct text params = text_of(command->params), kind, word;
	bool optional, missing = false;
	int err = 0;

	args = (struct shell_args){0};
	while (!err && !missing && next_kind(&params, &kind, &optional)) {
		if (text_is(kind, "TEXT") || text_is(kind, "COMMAND")) {
			word = args.text = text_trim(rest);
			rest.len = 0;
		} else if (text_next_word(&rest, &word)) {
			err = parse_one(kind, word);
		}
		missing = !word.len && !optional;
	}
	if (err || (!missing && !text_trim(rest).len)) return err;
	return shell_error(E_INVAL, "usage: %s%s%s", command->name, command->params[0] ? " " : "",
			   command->params);
}

/* ---- commands ---- */

static const char *meaning(int error) {
	static const char *const meanings[] = {
		[-E_INVAL] = "that value is not possible",
		[-E_NOMEM] = "not enough memory",
		[-E_NOENT] = "there is no such thing",
		[-E_EXIST] = "it is there already",
		[-E_RANGE] = "outside of what is allowed",
		[-E_BUSY] = "not possible in this state",
		[-E_TIMEOUT] = "it did not happen in time",
		[-E_NOSUPP] = "this machine cannot do it",
		[-E_FORMAT] = "the format is not known",
		[-E_TRUNC] = "the data are incomplete",
		[-E_FAULT] = "that address is not mapped",
	};

	return -error < (int)ARRAY_SIZE(meanings) ? meanings[-error] : "failed";
}

static void finish(int error) {
	if (error)
		shell_print("error: %s\n", message[0] ? message : meaning(error));
	else if (report || batch)
		shell_print("ok\n");
	line.len = cursor = 0;
}

static bool guests_there(void) {
	for (u32 i = 0; guests_get(i); i++) {
		u32 state = atomic_load(&guests_get(i)->state);

		if (state == VM_RUNNING || state == VM_PAUSED) return true;
	}
	return false;
}

/* What the parameters point into stays as it is until finish(). */
static void run(const struct line *from, bool sure) {
	struct text rest;
	const struct command *command = find(text_of_line(from), &rest);
	int err;

	if (command)
		err = parse(command, rest);
	else
		err = shell_error(E_NOENT, "unknown command '%.*s'; 'help' lists them",
				  WORD(text_of_line(from)));
	if (!err && (command->flags & COMMAND_DANGEROUS) && !sure && !batch && guests_there()) {
		asking = true;
		asked = *from;
		line.len = cursor = 0;
	} else if (!err && (command->flags & COMMAND_ON_VCPU) && args.vcpu->cpu != this_cpu()->id) {
		waiting = command;
	} else {
		finish(err ?: command->run(&args));
	}
}

u32 shell_cpu(void) { return waiting ? args.vcpu->cpu : 0; }

void shell_continue(void) {
	const struct command *command = waiting;

	if (!command) return;
	waiting = NULL;
	finish(command->run(&args));
}

static void enter(void) {
	bool sure = asking &&
		    (text_is(text_of_line(&line), "y") || text_is(text_of_line(&line), "yes"));

	if (!batch) show("\n", 1);
	message[0] = 0;
	report = batch;
	if (too_long) {
		finish(shell_error(E_RANGE, "a line has at most %u characters",
				   SHELL_LINE_MAX - 1));
	} else if (asking) {
		asking = false;
		if (sure)
			run(&asked, true);
		else
			finish(shell_error(E_BUSY, "not done"));
	} else if (text_trim(text_of_line(&line)).len) {
		history[newest++ % NR_HISTORY] = line;
		run(&line, false);
	} else {
		line.len = cursor = 0;
	}
	too_long = false;
	shown = newest;
}

/* ---- the line ---- */

void shell_prompt(void) {
	if (batch || log_shell_line()) return;
	show(asking ? QUESTION : PROMPT, strlen(asking ? QUESTION : PROMPT));
	show(line.at, line.len);
	for (u32 i = cursor; i < line.len; i++) show("\b", 1);
}

/* Puts n bytes in place of those from `from` to before `to`, the cursor behind them. */
static void edit(u32 from, u32 to, const char *text, u32 n) {
	u32 tail = line.len - to, old = line.len, len = from + n + tail, used = 0;
	char out[4 * SHELL_LINE_MAX];

	if (len >= SHELL_LINE_MAX) {
		too_long = true;
		return;
	}
	memmove(&line.at[from + n], &line.at[to], tail);
	memcpy(&line.at[from], text, n);
	line.len = len;
	too_long = too_long && len;
	/* To the first that changes, the new tail, blanks over what is left of the old, back. */
	u32 end = n || from != to ? (u32)max_u64(old, len) : from;
	while (cursor > from) out[used++] = '\b', cursor--;
	for (; cursor < end; cursor++) out[used++] = cursor < len ? line.at[cursor] : ' ';
	for (; cursor > from + n; cursor--) out[used++] = '\b';
	if (!batch) show(out, used);
}

static void move_to(u32 to) { edit(to, to, "", 0); }

/* Another line of the history; behind the newest stands the one that is being typed. */
static void look_at(u32 which) {
	if (which > newest || newest - which >= NR_HISTORY) return;
	if (shown == newest) history[newest % NR_HISTORY] = line;
	shown = which;
	edit(0, line.len, history[which % NR_HISTORY].at, history[which % NR_HISTORY].len);
}

static void erase_word(void) {
	u32 from = cursor;

	while (from && line.at[from - 1] == ' ') from--;
	while (from && line.at[from - 1] != ' ') from--;
	edit(from, cursor, "", 0);
}

/* ---- completion ---- */

struct completion {
	struct text typed;  /* the beginning of a word, or of a command's name */
	struct text common; /* what all that fit begin with */
	u32 count;
	bool list;
};

static void offer(struct completion *c, struct text word) {
	size_t n = 0;

	if (!begins(word, c->typed)) return;
	if (c->list) shell_print("%.*s\n", WORD(word));
	if (!c->count++) c->common = word;
	while (n < c->common.len && n < word.len && word.at[n] == c->common.at[n]) n++;
	c->common.len = n;
}

static void offer_commands(struct completion *c, struct text typed) {
	c->typed = typed;
	for (u32 i = 0; i < nr_commands; i++) offer(c, text_of(commands[i].name));
}

static void offer_values(struct completion *c, struct text kind) {
	bool more = is_choice(kind);
	struct text one;

	for (u32 i = 0; text_is(kind, "VM") && guests_get(i); i++)
		offer(c, text_of(guests_get(i)->name));
	while (more) {
		more = text_split(kind, '|', &one, &kind);
		offer(c, one);
	}
}

/* Offers what could stand before the cursor. */
static void offer_all(struct completion *c) {
	struct text kind = {0}, params, rest, word;
	u32 begin = 0, from = cursor;
	bool optional;

	while (begin < cursor && line.at[begin] == ' ') begin++;
	while (from > begin && line.at[from - 1] != ' ') from--;
	const struct command *command = find((struct text){line.at, from}, &rest);
	if (!command) {
		offer_commands(c, (struct text){line.at + begin, cursor - begin});
		return;
	}
	c->typed = (struct text){line.at + from, cursor - from};
	params = text_of(command->params);
	do {
		if (!next_kind(&params, &kind, &optional)) return;
		if (text_is(kind, "TEXT")) return;
		if (text_is(kind, "COMMAND")) {
			if (rest.len) from = (u32)(text_trim(rest).at - line.at);
			offer_commands(c, (struct text){line.at + from, cursor - from});
			return;
		}
	} while (text_next_word(&rest, &word));
	offer_values(c, kind);
}

static void complete(void) {
	struct completion c = {0};

	offer_all(&c);
	size_t more = c.common.len - c.typed.len;
	if (!c.count) return;
	if (more) edit(cursor, cursor, c.common.at + c.typed.len, (u32)more);
	if (c.count == 1) edit(cursor, cursor, " ", 1);
	if (more || c.count == 1) return;
	show("\n", 1);
	c = (struct completion){.list = true};
	offer_all(&c);
}

/* ---- input ---- */

/* A key of a VT100 as the control character that does the same (ECMA-48 5.4). */
static u8 key_of(u8 final) {
	static const u8 keys[][3] = {
		{'A', 0, CTRL('P')},   {'B', 0, CTRL('N')},   {'C', 0, CTRL('F')},
		{'D', 0, CTRL('B')},   {'F', 0, CTRL('E')},   {'H', 0, CTRL('A')},
		{'~', '1', CTRL('A')}, {'~', '3', CTRL('D')}, {'~', '4', CTRL('E')},
		{'~', '7', CTRL('A')}, {'~', '8', CTRL('E')},
	};

	for (u32 i = 0; i < ARRAY_SIZE(keys); i++)
		if (keys[i][0] == final && keys[i][1] == argument) return keys[i][2];
	return 0;
}

static void key(u8 byte) {
	switch (byte) {
	case CTRL('A'): move_to(0); break;
	case CTRL('B'): move_to(cursor - (cursor > 0)); break;
	case CTRL('C'):
		line.len = cursor = 0;
		too_long = asking = false;
		if (!batch) show("^C\n", 3);
		break;
	case CTRL('D'): edit(cursor, cursor + (cursor < line.len), "", 0); break;
	case CTRL('E'): move_to(line.len); break;
	case CTRL('F'): move_to(cursor + (cursor < line.len)); break;
	case CTRL('H'):
	case DELETE: edit(cursor - (cursor > 0), cursor, "", 0); break;
	case CTRL('K'): edit(cursor, line.len, "", 0); break;
	case CTRL('N'): look_at(shown + 1); break;
	case CTRL('P'): look_at(shown - 1); break;
	case CTRL('U'): edit(0, cursor, "", 0); break;
	case CTRL('W'): erase_word(); break;
	case '\t':
		if (batch)
			edit(cursor, cursor, " ", 1);
		else
			complete();
		break;
	case '\r': enter(); break;
	default:
		if (byte >= ' ' && byte < DELETE) edit(cursor, cursor, (const char *)&byte, 1);
	}
}

void shell_input(u8 byte) {
	u8 before = previous, state = escape;

	shell_prompt();
	previous = byte;
	if (byte == ESC) {
		escape = ESC;
		argument = 0;
	} else if (state == ESC && (byte == '[' || byte == 'O')) {
		escape = '[';
	} else if (state == '[' && byte >= '0' && byte < '@') {
		if (!argument) argument = byte;
	} else {
		escape = 0;
		if (state == '[')
			key(key_of(byte));
		else if (!state && byte == '\n' && before != '\r')
			key('\r');
		else if (!state && byte != '\n')
			key(byte);
	}
}
