/* A libnvidia-ml.so.1 without a GPU: what NVIDIA's published NVML API says is taken from a text file, at every call.

   The file is named by SWARM_FAKE_GPUS, and is written by tests/gpus/__init__.py; a line each:
     driver VERSION
     gpu UUID TOTAL USED NAME…          memory in MiB; a TOTAL of 0 is a card that does not count it
     mig UUID TOTAL USED GI CI          a part of the gpu above, which then is divided
     divided                            the gpu above is in MIG mode, with or without parts
     load PERCENT                       the gpu above computes so much of the time
     lost                               the gpu above has fallen off the bus
     process UUID PID MEMORY C|G        ends to be listed, and gives its memory back, when the process ends
     hang                               every call blocks while this line is there
     fail                               the driver cannot be initialised
   FILE.allocated has further process lines, of what the fake libcuda.so.1 has handed out. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS, UNINITIALIZED, INVALID, UNSUPPORTED, NO_PERMISSION, X5, NOT_FOUND, TOO_SMALL, X8, NOT_LOADED, LOST = 15 };
enum { MOST = 64 };
#define MIB 1048576ULL

typedef struct { unsigned pid; unsigned long long memory; unsigned gi, ci; } Process;
typedef struct { char uuid[100], name[100]; unsigned long long total, used; int parent, divided, lost, load; unsigned gi, ci; } Device;
typedef struct { char uuid[100]; unsigned pid; unsigned long long memory; char kind; } Holder;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;

static Device devices[MOST];
static Holder holders[4 * MOST];
static int count, held, hangs, fails, initialised;
static char driver[80];

static void read_file(const char *name) {
    FILE *file = fopen(name, "r");
    char line[600], kind;
    while (file && fgets(line, sizeof line, file)) {
        Device d = {.parent = -1};
        Holder h;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "driver %79s", driver) == 1) continue;
        if (!strcmp(line, "hang")) hangs = 1;
        if (!strcmp(line, "fail")) fails = 1;
        if (!strcmp(line, "lost") && count) devices[count - 1].lost = 1;
        if (count) sscanf(line, "load %d", &devices[count - 1].load);
        if (!strcmp(line, "divided") && count) devices[count - 1].divided = 1;
        if (sscanf(line, "gpu %99s %llu %llu %99[^\n]", d.uuid, &d.total, &d.used, d.name) == 4 && count < MOST) devices[count++] = d;
        if (sscanf(line, "mig %99s %llu %llu %u %u", d.uuid, &d.total, &d.used, &d.gi, &d.ci) == 5 && count < MOST) {
            for (d.parent = count - 1; devices[d.parent].parent >= 0; d.parent--) ;
            snprintf(d.name, sizeof d.name, "MIG of %.80s", devices[d.parent].name);
            devices[d.parent].divided = 1;
            devices[count++] = d;
        }
        if (sscanf(line, "process %99s %u %llu %c", h.uuid, &h.pid, &h.memory, &kind) == 4 && held < 4 * MOST) {
            h.kind = kind;
            char status[60], state = 0;
            snprintf(status, sizeof status, "/proc/%u/stat", h.pid);
            FILE *there = fopen(status, "r");
            if (there && fscanf(there, "%*d (%*[^)]) %c", &state) == 1 && state != 'Z') holders[held++] = h;
            if (there) fclose(there);
        }
    }
    if (file) fclose(file);
}

static void look(void) {
    const char *name = getenv("SWARM_FAKE_GPUS");
    char more[1000];
    for (;;) {
        count = held = hangs = fails = 0;
        strcpy(driver, "580.65.06");
        read_file(name ? name : "/dev/null");
        snprintf(more, sizeof more, "%s.allocated", name ? name : "");
        read_file(more);
        if (!hangs) return;
        usleep(10000);
    }
}

static Device *of(void *handle) {
    long at = (long)handle - 1;
    return at >= 0 && at < count ? &devices[at] : NULL;
}

#define FOUND(handle)                     \
    if (!initialised) return UNINITIALIZED; \
    look();                               \
    Device *d = of(handle);               \
    if (!d) return INVALID;               \
    if (d->lost) return LOST;

int nvmlInitWithFlags(unsigned flags) { (void)flags; look(); if (fails) return NOT_LOADED; initialised = 1; return SUCCESS; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { initialised = 0; return SUCCESS; }

const char *nvmlErrorString(int code) {
    return code == NOT_LOADED ? "Driver Not Loaded" : code == LOST ? "GPU is lost" : code == UNSUPPORTED ? "Not Supported"
         : code == NOT_FOUND ? "Not Found" : code == INVALID ? "Invalid Argument" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) { look(); snprintf(text, size, "%s", driver); return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *found) {
    if (!initialised) return UNINITIALIZED;
    look();
    *found = 0;
    for (int i = 0; i < count; i++) *found += devices[i].parent < 0;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!initialised) return UNINITIALIZED;
    look();
    for (int i = 0; i < count; i++)
        if (devices[i].parent < 0 && index-- == 0) { *handle = (void *)(long)(i + 1); return devices[i].lost ? LOST : SUCCESS; }
    return INVALID;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { FOUND(handle); snprintf(text, size, "%s", d->uuid); return SUCCESS; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { FOUND(handle); snprintf(text, size, "%s", d->name); return SUCCESS; }

static unsigned long long in_use(const Device *d) {
    unsigned long long used = d->used;
    for (int i = 0; i < held; i++) used += strcmp(holders[i].uuid, d->uuid) ? 0 : holders[i].memory;
    return (used < d->total ? used : d->total) * MIB;
}

int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    FOUND(handle);
    if (!d->total) return UNSUPPORTED;
    *memory = (Memory){.total = d->total * MIB, .used = in_use(d), .free = d->total * MIB - in_use(d)};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *memory) {
    Memory old;
    int code = nvmlDeviceGetMemoryInfo(handle, &old);
    if (code == SUCCESS) *memory = (MemoryV2){.version = memory->version, .total = old.total, .free = old.free, .used = old.used};
    return code;
}

static int list(void *handle, unsigned *size, Process *into, char kind) {
    FOUND(handle);
    unsigned found = 0;
    for (int i = 0; i < held; i++) {
        if (holders[i].kind != kind || strcmp(holders[i].uuid, d->uuid)) continue;
        if (into && found < *size) into[found] = (Process){holders[i].pid, holders[i].memory * MIB, d->gi, d->ci};
        found++;
    }
    int fits = into ? found <= *size : found == 0;
    *size = found;
    return fits ? SUCCESS : TOO_SMALL;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *size, Process *into) { return list(handle, size, into, 'C'); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *size, Process *into) { return list(handle, size, into, 'G'); }

int nvmlDeviceGetUtilizationRates(void *handle, unsigned rates[2]) {
    FOUND(handle);
    if (d->parent >= 0) return UNSUPPORTED;
    rates[0] = d->load;
    rates[1] = 0;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) { FOUND(handle); *now = *next = d->divided; return SUCCESS; }

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *most) { FOUND(handle); *most = d->divided ? 7 : 0; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) {
    FOUND(handle);
    for (int i = 0; i < count; i++)
        if (devices[i].parent == d - devices && index-- == 0) { *part = (void *)(long)(i + 1); return SUCCESS; }
    return NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) { FOUND(handle); *id = d->gi; return SUCCESS; }
int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) { FOUND(handle); *id = d->ci; return SUCCESS; }
