/* Formatted output. Unit tests use the C library's; test_printf.c includes this file. */
#include "lib/printf.h"

#include "lib/string.h"

struct out {
	char *buf;
	size_t size;
	size_t len; /* of the whole text so far */
};

struct spec {
	bool left, zero, alternate, is_long;
	u32 width;
	u32 precision; /* of a string; ~0: none */
};

/* A wrong width must not make one conversion write gigabytes. */
#define WIDTH_MAX 4096

static void put(struct out *out, char c) {
	if (out->len + 1 < out->size) out->buf[out->len] = c;
	out->len++;
}

static void put_text(struct out *out, const char *text, size_t len) {
	while (len--) put(out, *text++);
}

/* prefix and body as one field of the wanted width. */
static void put_field(struct out *out, const struct spec *spec, const char *prefix,
		      const char *body, size_t len) {
	bool zero = spec->zero && !spec->left;
	size_t prefix_len = strlen(prefix), at = prefix_len + len;

	for (size_t i = at; !spec->left && !zero && i < spec->width; i++) put(out, ' ');
	put_text(out, prefix, prefix_len);
	for (size_t i = at; zero && i < spec->width; i++) put(out, '0');
	put_text(out, body, len);
	for (size_t i = at; spec->left && i < spec->width; i++) put(out, ' ');
}

static void put_number(struct out *out, const struct spec *spec, u64 value, u32 base,
		       const char *prefix) {
	char body[24];
	size_t at = sizeof(body);

	do {
		body[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	put_field(out, spec, prefix, body + at, sizeof(body) - at);
}

/* Decimal digits at *fmt, cut at WIDTH_MAX. */
static u32 parse_digits(const char **fmt) {
	u32 value = 0;

	for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
		value = (u32)min_u64(value * 10 + (u32)(**fmt - '0'), WIDTH_MAX);
	return value;
}

/* What stands between a '%' and the conversion. */
static const char *parse_spec(const char *fmt, struct spec *spec, va_list *args) {
	*spec = (struct spec){.precision = ~0u};
	for (; *fmt == '-' || *fmt == '0' || *fmt == '#'; fmt++) {
		spec->left |= *fmt == '-';
		spec->zero |= *fmt == '0';
		spec->alternate |= *fmt == '#';
	}
	spec->width = parse_digits(&fmt);
	if (*fmt == '.' && *++fmt == '*') {
		fmt++;
		spec->precision = va_arg(*args, u32); /* a negative one is none */
	} else if (fmt[-1] == '.') {
		spec->precision = parse_digits(&fmt);
	}
	spec->is_long = *fmt == 'l';
	return spec->is_long ? fmt + 1 : fmt;
}

/* False when the conversion is not known. */
static bool convert(struct out *out, const struct spec *spec, char conversion, va_list *args) {
	const char *text;
	bool negative;
	u64 value;

	switch (conversion) {
	case 'd':
		value = spec->is_long ? va_arg(*args, u64) : (u64)va_arg(*args, int);
		negative = (s64)value < 0;
		put_number(out, spec, negative ? 0 - value : value, 10, negative ? "-" : "");
		return true;
	case 'u':
	case 'x':
		value = spec->is_long ? va_arg(*args, u64) : va_arg(*args, u32);
		put_number(out, spec, value, conversion == 'x' ? 16 : 10,
			   spec->alternate && value ? "0x" : "");
		return true;
	case 's':
		text = va_arg(*args, const char *);
		text = text ? text : "(null)";
		put_field(out, spec, "", text, strnlen(text, spec->precision));
		return true;
	case '%': put(out, '%'); return true;
	default: return false;
	}
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list args) {
	struct out out = {buf, size, 0};
	va_list rest;
	struct spec spec;

	va_copy(rest, args);
	while (*fmt) {
		const char *start = fmt++;

		if (*start != '%') {
			put(&out, *start);
			continue;
		}
		fmt = parse_spec(fmt, &spec, &rest);
		if (*fmt) fmt++;
		if (!convert(&out, &spec, fmt[-1], &rest))
			put_text(&out, start, (size_t)(fmt - start));
	}
	va_end(rest);
	if (size) buf[out.len < size ? out.len : size - 1] = 0;
	return out.len > INT32_MAX ? INT32_MAX : (int)out.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(buf, size, fmt, args);
	va_end(args);
	return len;
}
