// The stand-in for libcuda.so.1: memory of devices and of the host, and copies between them.
#include "driver.hpp"

using namespace standin;

namespace {

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

int copy_on_device(void* stream, uint64_t to, int to_device, uint64_t from, int from_device,
                   size_t bytes) {
    return enqueue(stream, [=] {
        bool peer = to_device != from_device;
        (peer ? counters.peer_copies : counters.local_copies)++;
        (peer ? counters.peer_bytes : counters.local_bytes) += bytes;
        return copy(pointer(to), to_device, pointer(from), from_device, bytes);
    });
}

}  // namespace

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
