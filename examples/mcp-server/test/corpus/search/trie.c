#include <stdlib.h>
#include <string.h>

/* Autocompletion: a tree with one letter an edge. */
struct node {
    struct node *child[26];
    int is_word;
};

struct node *node_new(void) {
    return calloc(1, sizeof(struct node));
}

int trie_insert(struct node *root, const char *word) {
    for (; *word; word++) {
        if (*word < 'a' || *word > 'z') return -1;
        struct node **next = &root->child[*word - 'a'];
        if (!*next && !(*next = node_new())) return -1;
        root = *next;
    }
    root->is_word = 1;
    return 0;
}

const struct node *trie_prefix(const struct node *root, const char *prefix) {
    for (; *prefix && root; prefix++) root = root->child[*prefix - 'a'];
    return root;
}
