// The stand-in for libcuda.so.1: what there is (the library, its devices and their contexts), and
// what tests read of the counters.
#include "driver.hpp"

using namespace standin;

namespace {

struct AtExit {
    ~AtExit() {
        if (const char* waits = getenv("STANDIN_WAITS")) races.write_waits(waits);
        const char* path = getenv("STANDIN_COUNTERS");
        FILE* file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        const Counters& c = counters;
        fprintf(file,
                "{\"launches\":%zu,\"uploads\":%zu,\"upload_bytes\":%zu,\"downloads\":%zu,"
                "\"download_bytes\":%zu,\"peer_copies\":%zu,\"peer_bytes\":%zu,"
                "\"local_copies\":%zu,\"local_bytes\":%zu,\"host_waits\":%zu,"
                "\"graphs\":%zu,\"graph_launches\":%zu,\"peer_touched\":%zu}\n",
                c.launches, c.uploads, c.upload_bytes, c.downloads, c.download_bytes,
                c.peer_copies, c.peer_bytes, c.local_copies, c.local_bytes, c.host_waits, c.graphs,
                c.graph_launches, c.peer_touched);
        fclose(file);
    }
} at_exit;

}  // namespace

/// For tests in the same process: the thirteen counters in the order of `Counters`.
extern "C" void standin_counters(uint64_t* out) {
    Guard guard(lock);
    memcpy(out, &counters, sizeof counters);
}

API cuInit(unsigned) { return devices() > 0 ? int(SUCCESS) : 100; }
API cuDriverGetVersion(int* version) {
    return *version = setting("STANDIN_DRIVER", 12090), SUCCESS;
}
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
    if (int code = setting("STANDIN_PEER_QUERY", 0)) return code;
    return *can = a != b && setting("STANDIN_PEER", 1), SUCCESS;
}
API cuCtxEnablePeerAccess(Context* peer, unsigned flags) {
    Guard guard(lock);
    if (int code = setting("STANDIN_PEER_ENABLE", 0)) return code;
    if (flags) return INVALID_VALUE;
    if (!current || !peer || peer == current) return INVALID_CONTEXT;
    if (!setting("STANDIN_PEER", 1)) return PEER_UNSUPPORTED;
    bool& reaches = current->reaches[peer->device];
    if (reaches) return PEER_ALREADY_ENABLED;
    return reaches = true, SUCCESS;  // this way only
}
API cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    Guard guard(lock);
    return context_of(device).flags = flags, SUCCESS;
}
API cuCtxGetFlags(unsigned* flags) { return *flags = current->flags, SUCCESS; }
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
    if (!current) return INVALID_CONTEXT;
    counters.host_waits++;
    timeline.line("{\"host_waits_for\":\"device\",\"device\":%d}", current->device);
    int result = force_all(*current);
    races.call({Call::HOST_WAITS_FOR_STREAM, current->standard.number});
    for (Stream* stream : current->streams)
        races.call({Call::HOST_WAITS_FOR_STREAM, stream->number});
    return result;
}
