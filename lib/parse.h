/* Reading numbers and words out of text that may be hostile and need not end in 0. */
#pragma once

#include "lib/types.h"

struct text {
	const char *at;
	size_t len;
};

/* For printf's %.*s: cut to what a message has room for. */
#define TEXT_QUOTE(text) (int)min_u64((text).len, 48), (text).at

/* The text of a string that ends in 0. */
struct text text_of(const char *string);

/* True when the text is this string, no more and no less; the same of two texts. */
bool text_is(struct text text, const char *string);
bool text_same(struct text a, struct text b);

/* True when a begins with b. */
bool text_begins(struct text a, struct text b);

/* Cuts blanks (space, tab, CR, LF) off both ends. */
struct text text_trim(struct text text);

/* Takes the next word, bounded by blanks, off the front of *rest. False when there is none. */
bool text_next_word(struct text *rest, struct text *word);

/* Splits at the first `separator`. False, with *after empty, when there is none. */
bool text_split(struct text text, char separator, struct text *before, struct text *after);

/*
 * The whole text as a number: decimal, or hexadecimal behind 0x, with an optional K, M, G or T
 * behind it. 0; E_INVAL when it is none; E_RANGE when it does not fit into 64 bits. *out changes
 * only on success.
 */
int text_to_size(struct text text, u64 *out) __must_check;

/* A number from min to max. 0 or E_RANGE, with *out as it was, for all else. */
int text_to_u32(struct text text, u32 min, u32 max, u32 *out) __must_check;

/* The index of a word among those of a list, which may end in NULL; -1: it is not there. */
int text_choose(struct text word, const char *const *words, size_t count);

/* A key whose value is one of a few words, or else a number from min to max. */
struct text_key {
	u16 field; /* where it is kept: the word's index, a u8, or the number, a u32 */
	u32 min, max;
	const char *words[4];
};

/* Sets the key's field in a structure. False: the value is not right for it. */
bool text_set(struct text value, const struct text_key *key, void *structure);

/* Adds a word with an end to a list of them for a message, cut to size bytes. */
void text_list(char *list, size_t size, const char *word, const char *end);
