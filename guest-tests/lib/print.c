/* Output of a guest test: COM1, polled, with a bounded wait so that no UART does not hang. */
#include "guest-tests/lib/guest.h"

#define COM1 0x3f8

void print_char(char c) {
	for (unsigned i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++) cpu_pause();
	outb(COM1, (u8)c);
}

struct sink {
	char *buffer; /* NULL: the serial port */
	size_t room;
};

static void put(struct sink *sink, char c) {
	if (!sink->buffer) {
		print_char(c);
	} else if (sink->room > 1) {
		*sink->buffer++ = c;
		sink->room--;
	}
}

struct field {
	unsigned width;
	bool left, zero;
};

static void put_padded(struct sink *sink, const char *text, size_t length, struct field field) {
	size_t pad = field.width > length ? field.width - length : 0;

	if (!field.left)
		for (; pad; pad--) put(sink, field.zero ? '0' : ' ');
	for (size_t i = 0; i < length; i++) put(sink, text[i]);
	for (; pad; pad--) put(sink, ' ');
}

static void put_number(struct sink *sink, u64 value, unsigned base, bool negative,
		       struct field field) {
	char text[24];
	size_t at = sizeof(text);

	do {
		text[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	if (negative) text[--at] = '-';
	put_padded(sink, text + at, sizeof(text) - at, field);
}

static void put_signed(struct sink *sink, s64 value, struct field field) {
	put_number(sink, value < 0 ? 0 - (u64)value : (u64)value, 10, value < 0, field);
}

static size_t text_length(const char *text) {
	size_t n = 0;

	while (text[n]) n++;
	return n;
}

static const char *parse_field(const char *f, struct field *field) {
	for (;; f++) {
		if (*f == '-')
			field->left = true;
		else if (*f == '0')
			field->zero = true;
		else
			break;
	}
	for (; *f >= '0' && *f <= '9'; f++) field->width = field->width * 10 + (unsigned)(*f - '0');
	return f;
}

static void format_to(struct sink *sink, const char *f, va_list args) {
	for (; *f; f++) {
		struct field field = {0, false, false};
		bool wide = false;
		const char *text;
		char c;

		if (*f != '%') {
			put(sink, *f);
			continue;
		}
		f = parse_field(f + 1, &field);
		for (; *f == 'l'; f++) wide = true;
		switch (*f) {
		case 's':
			text = va_arg(args, const char *);
			put_padded(sink, text, text_length(text), field);
			break;
		case 'c':
			c = (char)va_arg(args, int);
			put_padded(sink, &c, 1, field);
			break;
		case 'd':
			put_signed(sink, wide ? va_arg(args, s64) : va_arg(args, s32), field);
			break;
		case 'u':
		case 'x':
			put_number(sink, wide ? va_arg(args, u64) : va_arg(args, u32),
				   *f == 'u' ? 10 : 16, false, field);
			break;
		case 'p': put_number(sink, (u64)va_arg(args, void *), 16, false, field); break;
		default: put(sink, *f);
		}
	}
}

void print(const char *format, ...) {
	struct sink sink = {NULL, 0};
	va_list args;

	va_start(args, format);
	format_to(&sink, format, args);
	va_end(args);
}

const char *name_of(const char *format, ...) {
	static char buffer[128];
	struct sink sink = {buffer, sizeof(buffer)};
	va_list args;

	va_start(args, format);
	format_to(&sink, format, args);
	va_end(args);
	*sink.buffer = 0;
	return buffer;
}
