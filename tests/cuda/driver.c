// A CUDA driver (libcuda.so) without a GPU, for tests on a machine that has none. Memory is the host's and starts as
// zeros, launches do nothing, times are the clock's. A program so compiles all its kernels as for a card, and the
// results are of no use. What it does is set by the environment:
//
//     STAND_IN_ARCH     compute capability, 90 if it is not set
//     STAND_IN_PTX      folder that gets each distinct kernel as PTX, named by its hash
//     STAND_IN_MEMORY   memory of the card in MiB, 144384 if it is not set; allocations beyond it fail
//     STAND_IN_DRIVER   CUDA version of the driver, 12090 if it is not set: what ptxas 12.9 knows
//     STAND_IN_FAULT    no-card, exclusive, or full: no context can be made
//     STAND_IN_LOST     file; the card is lost as soon as it exists
//     STAND_IN_FULL     file; another process has taken the memory that is left as soon as it exists
//
//     cc -O1 -shared -fPIC -o libcuda.so driver.c
//
// Names, arguments and numbers of errors and attributes are those of NVIDIA's CUDA driver API.
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int Result;
typedef unsigned long long Address;

enum {
    SUCCESS = 0,
    OUT_OF_MEMORY = 2,
    DEVICE_UNAVAILABLE = 46,
    NO_DEVICE = 100,
    NOT_SUPPORTED = 801,
    LAUNCH_FAILED = 719,
    PAGE = 4096,
};

static atomic_long allocated;

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static int fault(const char *name) {
    const char *value = getenv("STAND_IN_FAULT");
    return value && strcmp(value, name) == 0;
}

static long capacity(void) { return (long)setting("STAND_IN_MEMORY", 144384) << 20; }

static int happened(const char *name) {
    const char *file = getenv(name);
    return file && access(file, F_OK) == 0;
}

// What every call returns on a card that is lost.
static Result lost(void) { return happened("STAND_IN_LOST") ? LAUNCH_FAILED : SUCCESS; }

Result cuInit(unsigned flags) { return fault("no-card") ? NO_DEVICE : SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = setting("STAND_IN_DRIVER", 12090), SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int number) { return *device = number, SUCCESS; }
Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Stand-in, no GPU");
    return SUCCESS;
}
Result cuDeviceGetPCIBusId(char *name, int length, int device) {
    snprintf(name, length, "0000:01:00.0");
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(char *uuid, int device) { return memset(uuid, 1, 16), SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = capacity(), SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    int arch = setting("STAND_IN_ARCH", 90);
    switch (attribute) {
        case 1: case 2: case 3: *value = 1024; break;      // threads of a block, in all and in x and y
        case 4: *value = 64; break;                        // in z
        case 5: *value = 2147483647; break;                // blocks of a grid, in x
        case 6: case 7: *value = 65535; break;             // in y and z
        case 8: *value = 49152; break;                     // shared memory of a block
        case 10: *value = 32; break;                       // threads of a warp
        case 16: *value = 132; break;                      // multiprocessors
        case 75: *value = arch / 10; break;
        case 76: *value = arch % 10; break;
        case 97: *value = arch >= 90 ? 232448 : 166912; break; // shared memory of a block that asks for more
        default: *value = 1;
    }
    return SUCCESS;
}

static char context[8];
Result cuDevicePrimaryCtxRetain(void **made, int device) {
    *made = context;
    return fault("exclusive") ? DEVICE_UNAVAILABLE : fault("full") ? OUT_OF_MEMORY : SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuCtxSetCurrent(void *made) { return SUCCESS; }
Result cuCtxGetCurrent(void **made) { return *made = context, SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }
Result cuCtxSynchronize(void) { return lost(); }

Result cuStreamCreate(void **stream, unsigned flags) { return *stream = calloc(1, 8), lost(); }
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    return *stream = calloc(1, 8), lost();
}
Result cuStreamDestroy_v2(void *stream) { return free(stream), SUCCESS; }
Result cuStreamSynchronize(void *stream) { return lost(); }
Result cuStreamQuery(void *stream) { return lost(); }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return lost(); }
Result cuStreamBeginCapture_v2(void *stream, int mode) { return NOT_SUPPORTED; }

// An event is the time at which it was recorded.
Result cuEventCreate(void **event, unsigned flags) { return *event = calloc(1, sizeof(struct timespec)), lost(); }
Result cuEventDestroy_v2(void *event) { return free(event), SUCCESS; }
Result cuEventRecord(void *event, void *stream) { return clock_gettime(CLOCK_MONOTONIC, event), lost(); }
Result cuEventSynchronize(void *event) { return lost(); }
Result cuEventQuery(void *event) { return lost(); }
Result cuEventElapsedTime_v2(float *milliseconds, struct timespec *start, struct timespec *end) {
    *milliseconds = (end->tv_sec - start->tv_sec) * 1e3f + (end->tv_nsec - start->tv_nsec) * 1e-6f;
    return lost();
}

static Result allocate(void **memory, size_t bytes) {
    if (lost()) return lost();
    if (allocated + (long)bytes > capacity() || happened("STAND_IN_FULL")) return OUT_OF_MEMORY;
    // Pages that nobody touches cost nothing. The first holds the size.
    size_t *pages = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return OUT_OF_MEMORY;
    *pages = bytes;
    *memory = (char *)pages + PAGE;
    allocated += bytes;
    return SUCCESS;
}
static Result release(void *memory) {
    size_t *pages = (size_t *)((char *)memory - PAGE);
    allocated -= *pages;
    munmap(pages, *pages + PAGE);
    return SUCCESS;
}
Result cuMemGetInfo_v2(size_t *available, size_t *total) {
    *total = capacity();
    *available = *total - allocated;
    return SUCCESS;
}
Result cuMemAlloc_v2(Address *memory, size_t bytes) {
    void *found = NULL;
    Result result = allocate(&found, bytes);
    *memory = (Address)found;
    return result;
}
Result cuMemAllocAsync(Address *memory, size_t bytes, void *stream) { return cuMemAlloc_v2(memory, bytes); }
Result cuMemFree_v2(Address memory) { return release((void *)memory); }
Result cuMemFreeAsync(Address memory, void *stream) { return release((void *)memory); }
Result cuMemAllocHost_v2(void **memory, size_t bytes) { return *memory = calloc(1, bytes ? bytes : 1), SUCCESS; }
Result cuMemFreeHost(void *memory) { return free(memory), SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    if (!lost()) memcpy((void *)to, from, bytes);
    return lost();
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    if (!lost()) memcpy(to, (void *)from, bytes);
    return lost();
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    if (!lost()) memmove((void *)to, (void *)from, bytes);
    return lost();
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *stream) {
    if (!lost()) memset((void *)to, value, bytes);
    return lost();
}

// CUDA_MEMCPY2D: one side, then the rectangle. Kind 1 is memory of the host.
typedef struct {
    size_t x, y;
    int kind;
    const void *host;
    Address device;
    void *array;
    size_t pitch;
} Side;
typedef struct {
    Side from, to;
    size_t width, height;
} Rectangle;
static char *row(const Side *side, size_t number) {
    char *start = side->kind == 1 ? (char *)side->host : (char *)side->device;
    return start + side->x + (side->y + number) * side->pitch;
}
Result cuMemcpy2DAsync_v2(const Rectangle *copy, void *stream) {
    for (size_t number = 0; !lost() && number < copy->height; number++)
        memcpy(row(&copy->to, number), row(&copy->from, number), copy->width);
    return lost();
}

// Keeps a module's text once, whoever compiles it.
static void keep(const char *text) {
    const char *folder = getenv("STAND_IN_PTX");
    uint64_t hash = 14695981039346656037u;
    char name[4096], partial[4200];
    if (!folder) return;
    for (const char *letter = text; *letter; letter++) hash = (hash ^ (unsigned char)*letter) * 1099511628211u;
    snprintf(name, sizeof name, "%s/%016llx.ptx", folder, (unsigned long long)hash);
    // Another thread may load the same module.
    snprintf(partial, sizeof partial, "%s.%p.partial", name, (void *)&name);
    FILE *file = fopen(partial, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) || rename(partial, name)) {
        perror(name);
        abort();
    }
}
Result cuModuleLoadData(void **module, const void *text) { return keep(text), *module = calloc(1, 8), lost(); }
Result cuModuleUnload(void *module) { return free(module), SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) { return *function = module, SUCCESS; }
Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
Result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                      unsigned threads_z, unsigned shared, void *stream, void **arguments, void **more) {
    return lost();
}

static const struct {
    Result number;
    const char *name, *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {DEVICE_UNAVAILABLE, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};
static Result error(Result number, const char **found, int text) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].number == number) return *found = text ? errors[i].text : errors[i].name, SUCCESS;
    return 1;
}
Result cuGetErrorName(Result number, const char **name) { return error(number, name, 0); }
Result cuGetErrorString(Result number, const char **text) { return error(number, text, 1); }
