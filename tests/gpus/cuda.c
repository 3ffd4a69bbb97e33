/* A libcuda.so.1 without a GPU: which devices a process may see, by CUDA's rules for CUDA_VISIBLE_DEVICES, and memory
   that is taken from the card of the fake libnvidia-ml.so.1 until the process ends. Each has the UUID's text at hand. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, MOST = 64 };

static char found[MOST][100], seen[MOST][100];
static unsigned long long total[MOST], taken[MOST];
static int there, count = -1;

static void read_cards(void) {
    FILE *file = fopen(getenv("SWARM_FAKE_GPUS") ? getenv("SWARM_FAKE_GPUS") : "/dev/null", "r");
    char line[600];
    for (there = 0; file && there < MOST && fgets(line, sizeof line, file);)
        if (sscanf(line, "gpu %99s %llu %llu", found[there], &total[there], &taken[there]) == 3 ||
            sscanf(line, "mig %99s %llu %llu", found[there], &total[there], &taken[there]) == 3) there++;
    if (file) fclose(file);
}

static int named(const char *word) {
    char *end;
    long number = strtol(word, &end, 10);
    if (*word && !*end) return number >= 0 && number < there ? (int)number : -1;
    for (int i = 0; i < there; i++)
        if (strlen(word) > 4 && !strncmp(found[i], word, strlen(word))) return i;
    return -1;
}

int cuInit(unsigned flags) {
    char *list = getenv("CUDA_VISIBLE_DEVICES"), copy[4000], *rest = copy, *word;
    (void)flags;
    read_cards();
    count = 0;
    if (!list)
        for (; count < there; count++) strcpy(seen[count], found[count]);
    else
        for (snprintf(copy, sizeof copy, "%s", list); (word = strsep(&rest, ",")) && named(word) >= 0;) strcpy(seen[count++], found[named(word)]);
    return count ? SUCCESS : NO_DEVICE;
}

int cuDeviceGetCount(int *number) { *number = count; return count < 0 ? NOT_INITIALIZED : SUCCESS; }

int swarmDeviceText(int device, char *text, int size) { /* ours: cuDeviceGetUuid as nvidia-smi would print it */
    if (device < 0 || device >= count) return INVALID_DEVICE;
    snprintf(text, size, "%s", seen[device]);
    return SUCCESS;
}

int swarmTake(int device, unsigned long long mebibytes) { /* ours: a context and cuMemAlloc in one, until the process ends */
    char name[1000], line[300];
    if (device < 0 || device >= count) return INVALID_DEVICE;
    snprintf(name, sizeof name, "%s.allocated", getenv("SWARM_FAKE_GPUS"));
    FILE *file = fopen(name, "a");
    snprintf(line, sizeof line, "process %s %d %llu C\n", seen[device], getpid(), mebibytes);
    int written = file && fputs(line, file) >= 0;
    return file && fclose(file) == 0 && written ? SUCCESS : OUT_OF_MEMORY;
}
