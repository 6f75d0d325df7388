/* Reading numbers and words out of bounded text. */
#include "lib/parse.h"

#include "lib/printf.h"
#include "lib/string.h"

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static struct text skip(struct text text, size_t count) {
	return (struct text){text.at + count, text.len - count};
}

struct text text_of(const char *string) {
	return (struct text){string, strlen(string)};
}

bool text_begins(struct text a, struct text b) {
	return a.len >= b.len && !memcmp(a.at, b.at, b.len);
}

bool text_same(struct text a, struct text b) { return a.len == b.len && text_begins(a, b); }

bool text_is(struct text text, const char *string) { return text_same(text, text_of(string)); }

struct text text_trim(struct text text) {
	while (text.len && is_blank(text.at[0])) text = skip(text, 1);
	while (text.len && is_blank(text.at[text.len - 1])) text.len--;
	return text;
}

bool text_next_word(struct text *rest, struct text *word) {
	*rest = text_trim(*rest);
	*word = *rest;
	word->len = 0;
	while (word->len < rest->len && !is_blank(rest->at[word->len])) word->len++;
	*rest = skip(*rest, word->len);
	return word->len > 0;
}

bool text_split(struct text text, char separator, struct text *before, struct text *after) {
	size_t i = 0;

	while (i < text.len && text.at[i] != separator) i++;
	*before = (struct text){text.at, i};
	*after = skip(text, i < text.len ? i + 1 : i);
	return i < text.len;
}

/* The value of a digit, or 16 when it is none. */
static u32 digit_value(char c) {
	if (c >= '0' && c <= '9') return (u32)(c - '0');
	if (c >= 'a' && c <= 'f') return (u32)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F') return (u32)(c - 'A') + 10;
	return 16;
}

/* Decimal, or hexadecimal behind 0x. */
static int to_u64(struct text text, u64 *out) {
	bool hex = text.len > 2 && text.at[0] == '0' && (text.at[1] == 'x' || text.at[1] == 'X');
	u32 base = hex ? 16 : 10;
	bool overflow = false;
	u64 value = 0;

	if (hex) text = skip(text, 2);
	if (text.len == 0) return E_INVAL;
	for (size_t i = 0; i < text.len; i++) {
		u32 digit = digit_value(text.at[i]);

		if (digit >= base) return E_INVAL;
		overflow |= __builtin_mul_overflow(value, base, &value);
		overflow |= __builtin_add_overflow(value, digit, &value);
	}
	if (overflow) return E_RANGE;
	*out = value;
	return 0;
}

int text_to_size(struct text text, u64 *out) {
	static const char units[] = "KMGT";
	unsigned shift = 0;
	u64 value;

	for (unsigned i = 0; text.len && units[i]; i++)
		if ((text.at[text.len - 1] & ~0x20) == units[i]) shift = 10 * (i + 1);
	if (shift) text.len--;
	int err = to_u64(text, &value);
	if (err) return err;
	if (value > ~0ul >> shift) return E_RANGE;
	*out = value << shift;
	return 0;
}

int text_to_u32(struct text text, u32 min, u32 max, u32 *out) {
	u64 value;

	if (to_u64(text, &value) || value < min || value > max) return E_RANGE;
	*out = (u32)value;
	return 0;
}

int text_choose(struct text word, const char *const *words, size_t count) {
	for (size_t i = 0; i < count && words[i]; i++)
		if (text_is(word, words[i])) return (int)i;
	return -1;
}

bool text_set(struct text value, const struct text_key *key, void *structure) {
	void *field = (u8 *)structure + key->field;
	int word = text_choose(value, key->words, ARRAY_SIZE(key->words));

	if (!key->words[0]) return !text_to_u32(value, key->min, key->max, field);
	if (word >= 0) *(u8 *)field = (u8)word;
	return word >= 0;
}

void text_list(char *list, size_t size, const char *word, const char *end) {
	size_t used = strlen(list);

	snprintf(list + used, size - used, "%s%s%s", used ? ", " : "", word, end);
}
