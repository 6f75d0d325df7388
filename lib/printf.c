/*
 * Formatted output into a buffer. One pass over the format; a conversion is first parsed into a
 * struct spec, then written through put(), which counts everything and stores what fits. Unit tests
 * of other files use the C library's; test_printf.c includes this file under other names.
 */
#include "lib/printf.h"

#include "lib/string.h"

#if !defined(UNIT_TEST) || defined(PRINTF_UNDER_TEST)

struct out {
	char *buf;
	size_t size;
	size_t len; /* of the whole text so far */
};

enum length { LEN_CHAR, LEN_SHORT, LEN_INT, LEN_LONG };

struct spec {
	bool left, zero, plus, space, alternate;
	u32 width;
	s32 precision; /* -1: none given */
	enum length length;
	char conversion;
};

/* A hostile width must not make one conversion write gigabytes. */
#define WIDTH_MAX 4096

static void put(struct out *out, char c) {
	if (out->len + 1 < out->size)
		out->buf[out->len] = c;
	out->len++;
}

static void put_many(struct out *out, char c, size_t count) {
	while (count--)
		put(out, c);
}

static void put_text(struct out *out, const char *text, size_t len) {
	for (size_t i = 0; i < len; i++)
		put(out, text[i]);
}

/* prefix, zeros and body as one field of the wanted width. */
static void put_field(struct out *out, const struct spec *spec, const char *prefix, size_t zeros,
		      const char *body, size_t body_len) {
	size_t prefix_len = strlen(prefix);
	size_t len = prefix_len + zeros + body_len;
	size_t pad = spec->width > len ? spec->width - len : 0;

	if (!spec->left)
		put_many(out, ' ', pad);
	put_text(out, prefix, prefix_len);
	put_many(out, '0', zeros);
	put_text(out, body, body_len);
	if (spec->left)
		put_many(out, ' ', pad);
}

static void put_number(struct out *out, const struct spec *spec, u64 value, u32 base,
		       const char *prefix) {
	const char *digits = spec->conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	char body[24];
	size_t at = sizeof(body);
	size_t len, zeros = 0;

	for (u64 rest = value; rest; rest /= base)
		body[--at] = digits[rest % base];
	if (value == 0 && spec->precision != 0)
		body[--at] = '0';
	len = sizeof(body) - at;

	if (spec->precision > 0 && (size_t)spec->precision > len)
		zeros = (size_t)spec->precision - len;
	else if (spec->precision < 0 && spec->zero && !spec->left &&
		 spec->width > len + strlen(prefix))
		zeros = spec->width - len - strlen(prefix);
	if (base == 8 && spec->alternate && zeros == 0 && (len == 0 || body[at] != '0'))
		zeros = 1;
	put_field(out, spec, prefix, zeros, body + at, len);
}

static void put_string(struct out *out, const struct spec *spec, const char *text) {
	size_t max = spec->precision < 0 ? SIZE_MAX : (size_t)spec->precision;

	if (!text)
		text = "(null)";
	put_field(out, spec, "", 0, text, strnlen(text, max));
}

static void put_signed(struct out *out, const struct spec *spec, s64 value) {
	u64 magnitude = value < 0 ? 0 - (u64)value : (u64)value;

	put_number(out, spec, magnitude, 10,
		   value < 0	 ? "-"
		   : spec->plus	 ? "+"
		   : spec->space ? " "
				 : "");
}

static void put_hex(struct out *out, const struct spec *spec, u64 value) {
	const char *prefix = spec->conversion == 'X' ? "0X" : "0x";

	put_number(out, spec, value, 16, spec->alternate && value ? prefix : "");
}

/* Decimal digits at *fmt, cut at WIDTH_MAX. */
static u32 parse_digits(const char **fmt) {
	u32 value = 0;

	for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
		if (value <= WIDTH_MAX)
			value = value * 10 + (u32)(**fmt - '0');
	return value > WIDTH_MAX ? WIDTH_MAX : value;
}

static const char *parse_flags(const char *fmt, struct spec *spec) {
	for (;; fmt++) {
		switch (*fmt) {
		case '-': spec->left = true; break;
		case '0': spec->zero = true; break;
		case '+': spec->plus = true; break;
		case ' ': spec->space = true; break;
		case '#': spec->alternate = true; break;
		default: return fmt;
		}
	}
}

static const char *parse_length(const char *fmt, struct spec *spec) {
	spec->length = LEN_INT;
	switch (*fmt) {
	case 'h':
		spec->length = fmt[1] == 'h' ? LEN_CHAR : LEN_SHORT;
		return fmt + (fmt[1] == 'h' ? 2 : 1);
	case 'l': spec->length = LEN_LONG; return fmt + (fmt[1] == 'l' ? 2 : 1);
	case 'z':
	case 'j':
	case 't': spec->length = LEN_LONG; return fmt + 1;
	default: return fmt;
	}
}

static u32 star_width(va_list *args, struct spec *spec) {
	int width = va_arg(*args, int);

	if (width < 0)
		spec->left = true;
	return (u32)min_u64(width < 0 ? 0 - (u64)(s64)width : (u64)width, WIDTH_MAX);
}

static s32 star_precision(va_list *args) {
	int precision = va_arg(*args, int);

	return precision < 0 ? -1 : precision > WIDTH_MAX ? WIDTH_MAX : precision;
}

/* What stands behind a '%', flags to conversion. */
static const char *parse_spec(const char *fmt, struct spec *spec, va_list *args) {
	*spec = (struct spec){.precision = -1};
	fmt = parse_flags(fmt, spec);
	if (*fmt == '*') {
		fmt++;
		spec->width = star_width(args, spec);
	} else {
		spec->width = parse_digits(&fmt);
	}
	if (*fmt == '.') {
		fmt++;
		if (*fmt == '*') {
			fmt++;
			spec->precision = star_precision(args);
		} else {
			spec->precision = (s32)parse_digits(&fmt);
		}
	}
	fmt = parse_length(fmt, spec);
	spec->conversion = *fmt;
	return *fmt ? fmt + 1 : fmt;
}

static s64 signed_arg(va_list *args, enum length length) {
	int value;

	if (length == LEN_LONG)
		return va_arg(*args, s64);
	value = va_arg(*args, int);
	return length == LEN_CHAR ? (s8)value : length == LEN_SHORT ? (s16)value : value;
}

static u64 unsigned_arg(va_list *args, enum length length) {
	u32 value;

	if (length == LEN_LONG)
		return va_arg(*args, u64);
	value = va_arg(*args, u32);
	return length == LEN_CHAR ? (u8)value : length == LEN_SHORT ? (u16)value : value;
}

/* False when the conversion is not known. */
static bool convert(struct out *out, const struct spec *spec, va_list *args) {
	char c;

	switch (spec->conversion) {
	case 'd':
	case 'i': put_signed(out, spec, signed_arg(args, spec->length)); return true;
	case 'u': put_number(out, spec, unsigned_arg(args, spec->length), 10, ""); return true;
	case 'o': put_number(out, spec, unsigned_arg(args, spec->length), 8, ""); return true;
	case 'x':
	case 'X': put_hex(out, spec, unsigned_arg(args, spec->length)); return true;
	case 'p': put_number(out, spec, (u64)va_arg(*args, void *), 16, "0x"); return true;
	case 'c':
		c = (char)va_arg(*args, int);
		put_field(out, spec, "", 0, &c, 1);
		return true;
	case 's': put_string(out, spec, va_arg(*args, const char *)); return true;
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
		if (!convert(&out, &spec, &rest))
			put_text(&out, start, (size_t)(fmt - start));
	}
	va_end(rest);
	if (size)
		buf[out.len < size ? out.len : size - 1] = 0;
	return out.len > INT32_MAX ? INT32_MAX : (int)out.len;
}

int snprintf(char *buf, size_t size, const char *fmt, ...) {
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(buf, size, fmt, args);
	va_end(args);
	return len;
}

#endif
