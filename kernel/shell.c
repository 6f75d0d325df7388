/*
 * The line editor, the parser of parameters, completion, and running a command. All of it belongs
 * to one CPU at a time (kernel/host_io.c), so there is no lock.
 *
 * The editor draws with characters, blanks and backspaces alone, which every terminal knows.
 */
#include "kernel/shell.h"

#include "kernel/host_io.h"
#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/log.h"
#include "kernel/vm.h"
#include "lib/printf.h"
#include "lib/string.h"

#define CTRL(letter) ((letter)&0x1f)
#define ESC	     0x1b
#define DELETE	     0x7f
#define NR_HISTORY   16u
#define PROMPT	     "roost> "
#define QUESTION     "guests are there; really? (y/n) "

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
static bool failed;
static bool asking; /* the line is the answer whether to run `asked` */
static struct line asked;
static struct vm *next_owner; /* of the console, after the command */

static const struct command *waiting; /* to be run by another CPU, or for all to settle */
static struct quiet quiet;
static bool settling;
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

void shell_fail(void) {
	show("\n", 1);
	failed = true;
}

void shell_attach(struct vm *vm) { next_owner = vm; }

void shell_set_batch(bool on) { batch = on; }

/* ---- parameters ---- */

static struct text text_of_line(const struct line *from) {
	return (struct text){from->at, from->len};
}

/* The command whose name the text begins with, and the text behind it in *rest. */
static const struct command *find(struct text text, struct text *rest) {
	for (const struct command *c = commands; c < commands + nr_commands; c++) {
		struct text name = text_of(c->name), want, got;
		bool found = true;

		*rest = text;
		while (found && text_next_word(&name, &want))
			found = text_next_word(rest, &got) && text_same(got, want);
		if (found) return c;
	}
	return NULL;
}

static void parse_number(struct text word, u64 *value) {
	int err = text_to_size(word, value);

	if (err)
		shell_error("'%.*s' is %s", TEXT_QUOTE(word),
			    err == E_RANGE ? "too large" : "no number");
}

/* One parameter of this kind. What has a | in it is a choice. */
static void parse_one(struct text kind, struct text word) {
	struct text one, rest;
	u64 id = 0;

	args.word = word;
	if (text_is(kind, "NAME")) {
		return;
	} else if (text_is(kind, "VM")) {
		args.vm = guests_find(word);
		if (!args.vm)
			shell_error("there is no VM '%.*s'", TEXT_QUOTE(word));
		else if (guests_state(args.vm) == GUEST_DYING)
			shell_error("'%s' is being destroyed", args.vm->name);
	} else if (text_is(kind, "VCPU")) {
		parse_number(word, &id);
		args.vcpu = id < args.vm->nr_vcpus ? args.vm->vcpus[id] : NULL;
		if (!args.vcpu)
			shell_error("the vCPUs of '%s' are 0 to %u", args.vm->name,
				    args.vm->nr_vcpus - 1);
	} else if (!text_split(kind, '|', &one, &rest)) {
		parse_number(word, &args.number[args.nr_numbers++]);
	} else {
		for (args.choice = 0; !text_same(one, word) && rest.len; args.choice++)
			text_split(rest, '|', &one, &rest);
		if (!text_same(one, word))
			shell_error("'%.*s' is none of %.*s", TEXT_QUOTE(word), TEXT_QUOTE(kind));
	}
}

/* Takes the next kind of parameter, without its brackets, off the front of *params. */
static bool next_kind(struct text *params, struct text *kind, bool *optional) {
	if (!text_next_word(params, kind)) return false;
	*optional = kind->at[0] == '[';
	if (*optional) *kind = (struct text){kind->at + 1, kind->len - 2};
	return true;
}

static void parse(const struct command *command, struct text rest) {
	struct text params = text_of(command->params), kind, word;
	bool optional, missing = false;

	args = (struct shell_args){.choice = command->number};
	while (!failed && !missing && next_kind(&params, &kind, &optional)) {
		if (text_is(kind, "TEXT") || text_is(kind, "COMMAND")) {
			word = args.text = text_trim(rest);
			rest.len = 0;
		} else if (text_next_word(&rest, &word)) {
			parse_one(kind, word);
		}
		missing = !word.len && !optional;
	}
	if (!failed && (missing || text_trim(rest).len))
		shell_error("usage: %s%s%s", command->name, command->params[0] ? " " : "",
			    command->params);
}

/* ---- commands ---- */

static void finish(void) {
	if (!failed && (report || batch)) shell_print("ok\n");
	line.len = cursor = 0;
	if (next_owner) console_attach(next_owner);
	next_owner = NULL;
}

/* What the parameters point into stays as it is until finish(). */
static void run(const struct line *from, bool sure) {
	struct text text = text_of_line(from), rest;
	const struct command *command = find(text, &rest);

	if (command)
		parse(command, rest);
	else
		shell_error("unknown command '%.*s'; 'help' lists them", TEXT_QUOTE(text));
	if (failed) {
		finish();
	} else if ((command->flags & COMMAND_ASKS) && !sure && !batch && guests_any()) {
		asking = true;
		asked = *from;
		line.len = cursor = 0;
	} else {
		waiting = command;
		shell_continue();
	}
}

bool shell_waits(void) { return waiting; }

u32 shell_cpu(void) { return waiting && (waiting->flags & COMMAND_ON_VCPU) ? args.vcpu->cpu : 0; }

void shell_continue(void) {
	if (!waiting || shell_cpu() != this_cpu()->id) return;
	if (!settling) {
		waiting->run(&args);
		settling = waiting->flags & COMMAND_SETTLES;
		if (settling) sched_quiet_begin(&quiet);
	}
	if (settling && !sched_quiet_over(&quiet)) return;
	settling = false;
	finish();
	waiting = NULL;
}

static void enter(void) {
	struct text text = text_of_line(&line);
	bool answer = asking, yes = text_is(text, "y") || text_is(text, "yes");

	if (!batch) show("\n", 1);
	report = batch;
	failed = asking = false;
	if (too_long) shell_error("a line has at most %u characters", SHELL_LINE_MAX - 1);
	if (answer && !yes) shell_error("not done");
	if (failed) {
		finish();
	} else if (answer) {
		run(&asked, true);
	} else if (text_trim(text).len) {
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

/* ---- completion ---- */

static struct text typed;  /* the beginning of a word, or of a command's name */
static struct text common; /* what all that fit begin with */
static u32 fitting;
static bool listing;

static void offer(struct text word) {
	size_t n = 0;

	if (!text_begins(word, typed)) return;
	if (listing) shell_print("%.*s\n", TEXT_QUOTE(word));
	if (!fitting++) common = word;
	while (n < common.len && n < word.len && word.at[n] == common.at[n]) n++;
	common.len = n;
}

static void offer_commands(u32 from) {
	typed = (struct text){line.at + from, cursor - from};
	for (u32 i = 0; i < nr_commands; i++) offer(text_of(commands[i].name));
}

/* Offers what could stand before the cursor. */
static void offer_all(void) {
	struct text kind, params, rest, word;
	u32 begin = 0, from = cursor;
	bool optional, more;

	fitting = 0;
	while (begin < cursor && line.at[begin] == ' ') begin++;
	while (from > begin && line.at[from - 1] != ' ') from--;
	const struct command *command = find((struct text){line.at, from}, &rest);
	if (!command) {
		offer_commands(begin);
		return;
	}
	params = text_of(command->params);
	do {
		if (!next_kind(&params, &kind, &optional)) return;
		if (text_is(kind, "COMMAND")) {
			offer_commands(rest.len ? (u32)(text_trim(rest).at - line.at) : from);
			return;
		}
	} while (text_next_word(&rest, &word));
	typed = (struct text){line.at + from, cursor - from};
	for (u32 i = 0; text_is(kind, "VM") && guests_get(i); i++)
		offer(text_of(guests_get(i)->name));
	more = text_split(kind, '|', &word, &rest);
	while (more) {
		more = text_split(kind, '|', &word, &kind);
		offer(word);
	}
}

static void complete(void) {
	listing = false;
	offer_all();
	u32 more = fitting ? (u32)(common.len - typed.len) : 0;
	if (more) edit(cursor, cursor, common.at + typed.len, more);
	if (fitting == 1) edit(cursor, cursor, " ", 1);
	if (more || fitting < 2) return;
	show("\n", 1);
	listing = true;
	offer_all();
}

/* ---- input ---- */

/* A key of a VT100 as the control character that does the same (ECMA-48 5.4). */
static u8 key_of(u8 final) {
	static const char keys[] = "APBNCFDBFEHA1A3D4E7A8E";
	char name = (char)(final == '~' ? argument : argument ? 0 : final);

	for (u32 i = 0; keys[i]; i += 2)
		if (keys[i] == name) return CTRL((u8)keys[i + 1]);
	return 0;
}

static void key(u8 byte) {
	u32 from = cursor;

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
	case CTRL('W'):
		while (from && line.at[from - 1] == ' ') from--;
		while (from && line.at[from - 1] != ' ') from--;
		edit(from, cursor, "", 0);
		break;
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
	bool second = byte == '\n' && previous == '\r';
	u8 state = escape;

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
		else if (!state && !second)
			key(byte == '\n' ? '\r' : byte);
	}
}
