/* Circular doubly linked lists, the links inside of the members; an empty head points at itself. */
#pragma once

#include "lib/types.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head) {
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list *head) { return head->next == head; }

static inline void list_add_head(struct list *head, struct list *node) {
	node->prev = head;
	node->next = head->next;
	head->next->prev = node;
	head->next = node;
}

static inline void list_add_tail(struct list *head, struct list *node) {
	list_add_head(head->prev, node);
}

/* The node links to itself afterwards, so removing it once more does no harm. */
static inline void list_remove(struct list *node) {
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}
