// A stand-in for libcuda.so.1: the part of the CUDA driver API that the program uses, on the CPU's
// memory. It is test code and proves order and addresses, not speed.
//
// Streams are lazy: queued work runs only when a wait forces it, and then only what the wait needs.
// So a missing wait between streams shows as poison or stale data. Environment variables:
//   STANDIN_DEVICES=2        how many devices there are
//   STANDIN_CAPABILITY=8.0   their compute capability
//   STANDIN_MEMORY=bytes     memory of each device (4 GiB)
//   STANDIN_PEER=0           peer access is refused
//   STANDIN_FAIL_LAUNCH=name launches of that kernel fail
//   STANDIN_ORDER=...        order of threads in a block: forward, reverse, random
//   STANDIN_EAGER=1          queued work runs at once
//   STANDIN_DROP_WAITS=1     cuStreamWaitEvent does nothing: a planted fault
//   STANDIN_COUNTERS=file    counters are written there at the end
#include "memory.hpp"
#include "run.hpp"
#include <chrono>
#include <csignal>
#include <deque>
#include <dlfcn.h>
#include <functional>
#include <mutex>

using namespace standin;

namespace {

enum Result {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
    PEER_ALREADY_ENABLED = 704, INVALID_IMAGE = 200, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
    ILLEGAL_ADDRESS = 700, PEER_UNSUPPORTED = 217, LAUNCH_FAILED = 719
};

std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;
Memory memory;

/// What tests read: see `standin_counters`.
struct Counters {
    uint64_t launches, uploads, upload_bytes, downloads, download_bytes, peer_copies, peer_bytes,
        local_copies, local_bytes, host_waits;
} counters;

const char* text_setting(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value && *value ? value : otherwise;
}
long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value && *value ? atol(value) : otherwise;
}
int devices() { return setting("STANDIN_DEVICES", 2); }
size_t device_memory() { return setting("STANDIN_MEMORY", 4l << 30); }

struct Stream {
    int device = 0;
    std::deque<std::function<int()>> queue;
    uint64_t done = 0;  // operations that have run since the beginning
    bool running = false;
    uint64_t queued() const { return done + queue.size(); }
};

struct Event {
    Stream* stream = nullptr;  // where it was recorded last, and how much work was queued by then
    uint64_t position = 0;
    double time = 0;
};

struct Context {
    int device;
    int error = SUCCESS;  // sticky, as on a GPU
    Stream standard;
    std::vector<Stream*> streams;
};

Context contexts[16];
thread_local Context* current = nullptr;

Context& context_of(int device) { return contexts[device].device = device, contexts[device]; }

void report(const std::string& sentence) {
    fprintf(stderr, "stand-in: %s\n", sentence.c_str());
}

/// Runs the stream's oldest operations until `position` of them are done.
int force(Stream* stream, uint64_t position) {
    Context& context = context_of(stream->device);
    while (stream->done < position && !stream->queue.empty()) {
        auto operation = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        if (context.error == SUCCESS) context.error = operation();
    }
    return context.error;
}

int force_all(Context& context) {
    force(&context.standard, context.standard.queued());
    for (Stream* stream : context.streams) force(stream, stream->queued());
    return context.error;
}

Stream* stream_of(void* handle) {
    return handle ? static_cast<Stream*>(handle) : &current->standard;
}

int enqueue(void* handle, std::function<int()> operation) {
    Stream* stream = stream_of(handle);
    stream->device = handle ? stream->device : current->device;
    if (context_of(stream->device).error) return context_of(stream->device).error;
    stream->queue.push_back(std::move(operation));
    return setting("STANDIN_EAGER", 0) ? force(stream, stream->queued()) : int(SUCCESS);
}

// ---- faults inside a kernel -------------------------------------------------------------------

struct sigaction previous;

void on_fault(int signal, siginfo_t* info, void* context) {
    char* address = static_cast<char*>(info->si_addr);
    if (!machine.inside) {
        if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
        sigaction(signal, &previous, nullptr);
        return;
    }
    std::string what = "an access outside of any buffer (or not aligned to its size)";
    if (const Buffer* b = memory.near(address)) {
        if (b->device != memory.open_device)
            what = "a pointer of device " + std::to_string(b->device) + " is used on device " +
                   std::to_string(memory.open_device);
        else if (address >= b->end())
            what = "an access " + std::to_string(address - b->end()) +
                   " bytes behind the end of a buffer of " + std::to_string(b->bytes) + " bytes";
        else
            what = "an access " + std::to_string(b->begin - address) +
                   " bytes before a buffer of " + std::to_string(b->bytes) + " bytes";
    }
    report(place() + ": " + what);
    siglongjmp(machine.escape, 1);
}

struct Signals {
    Signals() {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, &previous);
        struct sigaction ignored;
        sigaction(SIGBUS, &action, &ignored);
    }
};

struct Module {
    void* object;
    Kernel* kernels;
    char *shared, *shared_end;
    int device;
};
struct Function {
    Kernel* kernel;
    Module* module;
};

int run_kernel(int device, const Function& function, dim3 blocks, dim3 threads,
               const std::vector<std::vector<char>>& values) {
    static Signals signals;
    static thread_local std::vector<char> signal_stack(64 << 10);
    stack_t stack = {signal_stack.data(), 0, signal_stack.size()}, before;
    sigaltstack(&stack, &before);
    std::vector<void*> parameters;
    for (auto& value : values) parameters.push_back(const_cast<char*>(value.data()));
    memory.open(device);
    std::string wrong;
    machine.inside = true;
    machine.is_global = [](const char* p) { return memory.near(p) != nullptr; };
    volatile int result = SUCCESS;  // it outlives the jump out of a fault
    if (sigsetjmp(machine.escape, 1) == 0) {
        static Runtime** table;
        table = static_cast<Runtime**>(dlsym(function.module->object, "standin_runtime"));
        *table = &machine.runtime;
        wrong = run_grid(*function.kernel, parameters.data(), blocks, threads,
                         function.module->shared, function.module->shared_end);
        if (!wrong.empty()) {
            report(wrong);
            result = LAUNCH_FAILED;
        }
    } else {
        result = ILLEGAL_ADDRESS;
    }
    machine.inside = false;
    sigaltstack(&before, nullptr);
    return result;
}

/// Copies between any two places, either of them on a device (or -1: the host).
int copy(char* to, int to_device, const char* from, int from_device, size_t bytes) {
    std::string wrong;
    if (to_device >= 0) wrong += memory.check(to, bytes, to_device);
    if (from_device >= 0) wrong += memory.check(from, bytes, from_device);
    if (!wrong.empty()) return report(wrong), int(INVALID_VALUE);
    std::vector<char> staged(bytes);
    if (from_device >= 0) memory.open(from_device);
    memcpy(staged.data(), from, bytes);
    if (to_device >= 0) memory.open(to_device);
    memcpy(to, staged.data(), bytes);
    return SUCCESS;
}

char* pointer(uint64_t p) { return reinterpret_cast<char*>(p); }

int copy_on_device(void* stream, uint64_t to, int to_device, uint64_t from, int from_device,
                   size_t bytes) {
    return enqueue(stream, [=] {
        bool peer = to_device != from_device;
        (peer ? counters.peer_copies : counters.local_copies)++;
        (peer ? counters.peer_bytes : counters.local_bytes) += bytes;
        return copy(pointer(to), to_device, pointer(from), from_device, bytes);
    });
}

struct AtExit {
    ~AtExit() {
        const char* path = getenv("STANDIN_COUNTERS");
        FILE* file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        const Counters& c = counters;
        fprintf(file,
                "{\"launches\":%zu,\"uploads\":%zu,\"upload_bytes\":%zu,\"downloads\":%zu,"
                "\"download_bytes\":%zu,\"peer_copies\":%zu,\"peer_bytes\":%zu,"
                "\"local_copies\":%zu,\"local_bytes\":%zu,\"host_waits\":%zu}\n",
                c.launches, c.uploads, c.upload_bytes, c.downloads, c.download_bytes,
                c.peer_copies, c.peer_bytes, c.local_copies, c.local_bytes, c.host_waits);
        fclose(file);
    }
} at_exit;

}  // namespace

#define API extern "C" int

/// For tests: how memory was accessed since the last call, the six numbers of Accesses::Totals.
extern "C" void standin_accesses(uint64_t* out) {
    Guard guard(lock);
    memcpy(out, &machine.accesses.totals, sizeof machine.accesses.totals);
    machine.accesses.totals = {};
}

/// For tests in the same process: the ten counters in the order of `Counters`.
extern "C" void standin_counters(uint64_t* out) {
    Guard guard(lock);
    memcpy(out, &counters, sizeof counters);
}

API cuInit(unsigned) { return devices() > 0 ? int(SUCCESS) : 100; }
API cuDriverGetVersion(int* version) { return *version = 12090, SUCCESS; }
API cuGetExportTable(const void** table, const void*) {
    static size_t empty[1] = {8};  // the real NVRTC asks for it
    return *table = empty, SUCCESS;
}
API cuGetErrorName(int code, const char** name) {
    switch (code) {
        case SUCCESS: *name = "CUDA_SUCCESS"; break;
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
        case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
        default: *name = "CUDA_ERROR";
    }
    return SUCCESS;
}
API cuGetErrorString(int code, const char** text) { return cuGetErrorName(code, text); }

// ---- devices and contexts ---------------------------------------------------------------------

API cuDeviceGetCount(int* count) { return *count = devices(), SUCCESS; }
API cuDeviceGet(int* device, int ordinal) {
    return *device = ordinal, ordinal < devices() ? SUCCESS : INVALID_DEVICE;
}
API cuDeviceGetName(char* name, int length, int device) {
    return snprintf(name, length, "stand-in device %d", device), SUCCESS;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = device_memory(), SUCCESS; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    const char* capability = text_setting("STANDIN_CAPABILITY", "8.0");
    switch (attribute) {
        case 16: *value = 108; break;                         // multiprocessors
        case 75: *value = atoi(capability); break;            // compute capability, major
        case 76: *value = atoi(strchr(capability, '.') + 1); break;  // and minor
        default: *value = 0;                                  // also: no memory pools
    }
    return SUCCESS;
}
API cuDeviceCanAccessPeer(int* can, int a, int b) {
    return *can = a != b && setting("STANDIN_PEER", 1), SUCCESS;
}
API cuCtxEnablePeerAccess(Context*, unsigned) {
    return setting("STANDIN_PEER", 1) ? SUCCESS : PEER_UNSUPPORTED;
}
API cuDevicePrimaryCtxRetain(Context** out, int device) {
    return *out = &context_of(device), SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int device) {
    Guard guard(lock);
    force_all(context_of(device));
    return SUCCESS;
}
API cuCtxGetCurrent(Context** out) { return *out = current, SUCCESS; }
API cuCtxSetCurrent(Context* context) { return current = context, SUCCESS; }
API cuCtxSynchronize() {
    Guard guard(lock);
    counters.host_waits++;
    return force_all(*current);
}

// ---- memory -----------------------------------------------------------------------------------

API cuMemGetInfo_v2(size_t* free, size_t* total) {
    Guard guard(lock);
    *total = device_memory();
    *free = *total - memory.used[current->device];
    return SUCCESS;
}
API cuMemAlloc_v2(uint64_t* out, size_t bytes) {
    Guard guard(lock);
    if (bytes == 0) return INVALID_VALUE;
    if (memory.used[current->device] + bytes > device_memory()) return OUT_OF_MEMORY;
    char* p = memory.take(current->device, bytes);
    *out = reinterpret_cast<uint64_t>(p);
    return p ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFree_v2(uint64_t p) {
    Guard guard(lock);
    force_all(*current);
    std::string wrong = memory.give_back(pointer(p));
    if (wrong.empty()) return SUCCESS;
    report(wrong);
    return current->error = ILLEGAL_ADDRESS;
}
API cuMemHostAlloc(void** out, size_t bytes, unsigned) {
    *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(*out, 0xff, bytes);
    return SUCCESS;
}
API cuMemFreeHost(void* p) {
    Guard guard(lock);
    for (int d = 0; d < devices(); d++) force_all(context_of(d));
    return free(p), SUCCESS;
}
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    return enqueue(stream, [=] {
        std::string wrong = memory.check(pointer(to), bytes, device);
        if (!wrong.empty()) return report(wrong), int(INVALID_VALUE);
        memory.open(device);
        return memset(pointer(to), value, bytes), int(SUCCESS);
    });
}
API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    return enqueue(stream, [=] {
        counters.uploads++;
        counters.upload_bytes += bytes;
        return copy(pointer(to), device, static_cast<const char*>(from), -1, bytes);
    });
}
API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    Guard guard(lock);
    int device = current->device;
    return enqueue(stream, [=] {
        counters.downloads++;
        counters.download_bytes += bytes;
        return copy(static_cast<char*>(to), -1, pointer(from), device, bytes);
    });
}
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    Guard guard(lock);
    return copy_on_device(stream, to, current->device, from, current->device, bytes);
}
API cuMemcpyPeerAsync(uint64_t to, Context* to_context, uint64_t from, Context* from_context,
                      size_t bytes, void* stream) {
    Guard guard(lock);
    return copy_on_device(stream, to, to_context->device, from, from_context->device, bytes);
}

// ---- modules and launches ---------------------------------------------------------------------

API cuModuleLoadData(Module** out, const char* image) {
    Guard guard(lock);
    const char* mark = "stand-in object ";
    if (strncmp(image, mark, strlen(mark))) return INVALID_IMAGE;
    void* object = dlopen(image + strlen(mark), RTLD_NOW | RTLD_LOCAL);
    if (!object) return report(dlerror()), INVALID_IMAGE;
    auto bound = [&](const char* name) {
        return reinterpret_cast<char* (*)()>(dlsym(object, name))();
    };
    *out = new Module{object, *static_cast<Kernel**>(dlsym(object, "standin_kernels")),
                      bound("standin_shared_begin"), bound("standin_shared_end"), current->device};
    return SUCCESS;
}
API cuModuleUnload(Module*) { return SUCCESS; }  // queued launches may still need it
API cuModuleGetFunction(Function** out, Module* module, const char* name) {
    for (Kernel* k = module->kernels; k; k = k->next) {
        if (!strcmp(k->name, name)) return *out = new Function{k, module}, SUCCESS;
    }
    return NOT_FOUND;
}
API cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned dynamic_shared, void* stream,
                   void** parameters, void**) {
    Guard guard(lock);
    unsigned threads = bx * by * bz;
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || threads == 0 ||
        threads > 1024 || dynamic_shared > 0)
        return INVALID_VALUE;
    if (function->module->device != current->device) return INVALID_HANDLE;
    if (!strcmp(text_setting("STANDIN_FAIL_LAUNCH", ""), function->kernel->name))
        return LAUNCH_FAILED;
    std::vector<std::vector<char>> values;
    for (size_t i = 0; i < function->kernel->count; i++) {
        const char* p = static_cast<char*>(parameters[i]);
        values.emplace_back(p, p + function->kernel->sizes[i]);
    }
    int device = current->device;
    return enqueue(stream, [=, values = std::move(values)] {
        counters.launches++;
        return run_kernel(device, *function, {gx, gy, gz}, {bx, by, bz}, values);
    });
}

// ---- streams and events -----------------------------------------------------------------------

API cuStreamCreate(Stream** out, unsigned) {
    Guard guard(lock);
    *out = new Stream;
    (*out)->device = current->device;
    current->streams.push_back(*out);
    return SUCCESS;
}
API cuStreamDestroy_v2(Stream* stream) {
    Guard guard(lock);
    force(stream, stream->queued());  // its events may still be waited for: it stays in the list
    return SUCCESS;
}
API cuStreamSynchronize(void* handle) {
    Guard guard(lock);
    counters.host_waits++;
    Stream* stream = stream_of(handle);
    return force(stream, stream->queued());
}
API cuEventCreate(Event** out, unsigned) { return *out = new Event, SUCCESS; }
API cuEventDestroy_v2(Event*) { return SUCCESS; }  // waits already queued may still name it
API cuEventRecord(Event* event, void* stream) {
    Guard guard(lock);
    int result = enqueue(stream, [=] {
        auto now = std::chrono::steady_clock::now().time_since_epoch();
        event->time = std::chrono::duration<double, std::milli>(now).count();
        return int(SUCCESS);
    });
    event->stream = stream_of(stream);
    event->position = event->stream->queued();
    return result;
}
API cuStreamWaitEvent(void* stream, Event* event, unsigned) {
    Guard guard(lock);
    if (!event->stream || setting("STANDIN_DROP_WAITS", 0)) return SUCCESS;
    Stream* other = event->stream;
    uint64_t position = event->position;
    return enqueue(stream, [=] { return force(other, position); });
}
API cuEventSynchronize(Event* event) {
    Guard guard(lock);
    counters.host_waits++;
    return event->stream ? force(event->stream, event->position) : int(SUCCESS);
}
API cuEventQuery(Event* event) {
    Guard guard(lock);
    if (!event->stream || event->stream->done >= event->position) return SUCCESS;
    int result = force(event->stream, event->stream->done + 1);  // a GPU would go on by itself
    return result ? result : int(NOT_READY);
}
API cuEventElapsedTime(float* milliseconds, Event* a, Event* b) {
    return *milliseconds = float(b->time - a->time), SUCCESS;
}
