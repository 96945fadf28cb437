/* Debian's unwinder is made for glibc: it asks where a function's tables are with `_dl_find_object`, which musl
   does not have. This answers from what both have, `dl_iterate_phdr`. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stddef.h>

/* As in glibc's <dlfcn.h>. */
struct dl_find_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct question {
    const char *address;
    struct dl_find_object *answer;
};

/* Whether this object holds the address, and if so where it begins, ends, and has its tables. */
static int look(struct dl_phdr_info *object, size_t size, void *data) {
    struct question *question = data;
    char *tables = NULL, *start = NULL, *end = NULL;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &object->dlpi_phdr[i];
        char *place = (char *)object->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && question->address >= place && question->address < place + header->p_memsz) {
            start = place;
            end = place + header->p_memsz;
        }
        if (header->p_type == PT_GNU_EH_FRAME) tables = place;
    }
    if (start == NULL || tables == NULL) return 0;
    *question->answer = (struct dl_find_object){ .map_start = start, .map_end = end, .eh_frame = tables };
    return 1;
}

int _dl_find_object(void *address, struct dl_find_object *answer) {
    struct question question = { address, answer };
    return dl_iterate_phdr(look, &question) ? 0 : -1;
}

/* The unwinder has weak references to these, which alone do not bring them into a static program; without them
   it believes that there are no threads. */
__attribute__((used)) static void *const needed[] = {
    (void *)pthread_once, (void *)pthread_key_create, (void *)pthread_getspecific, (void *)pthread_setspecific,
    (void *)pthread_mutex_lock, (void *)pthread_mutex_unlock, (void *)pthread_create,
};
