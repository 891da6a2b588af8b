// A stand-in for libcuda.so.1: the part of the CUDA driver API that the program uses, on the CPU's
// memory. It is test code and proves order and addresses, not speed.
//
// Streams are lazy: queued work runs only when a wait forces it, and then only what the wait needs.
// So a missing wait between streams shows as poison or stale data. Environment variables:
//   STANDIN_DEVICES=2        how many devices there are
//   STANDIN_CAPABILITY=8.0   their compute capability
//   STANDIN_DRIVER=12090     the driver's CUDA version
//   STANDIN_MEMORY=bytes     memory of each device (4 GiB)
//   STANDIN_PEER=0           peer access is refused
//   STANDIN_PEER_QUERY=n     asking for it fails with this code; STANDIN_PEER_ENABLE=n, enabling it
//   STANDIN_FAIL_LAUNCH=name launches of that kernel fail
//   STANDIN_HANG=name        a launch of that kernel never ends: STANDIN_HANG_AT=n, the n-th
//   STANDIN_ORDER=...        order of threads in a block: forward, reverse, random
//   STANDIN_EAGER=1          queued work runs at once
//   STANDIN_DROP_WAITS=1     cuStreamWaitEvent does nothing: a planted fault
//   STANDIN_CAPTURE=0        streams are not captured; STANDIN_GRAPHS=0: there is no room for graphs
//   STANDIN_DROP_WAIT=n      nor does the n-th that would put anything in order (STANDIN_RACES)
//   STANDIN_RACES=1          work that nothing puts in order is an error (races.hpp)
//   STANDIN_WAITS=file       what each wait is for is written there at the end (STANDIN_RACES)
//   STANDIN_COUNTERS=file    counters are written there at the end
//   STANDIN_TIMELINE=file    nothing is run; the calls are written there (timeline.hpp)
//
// This header is what its parts share: settings, counters, streams and how queued work is run. The
// calls of the API are in devices.cpp, copies.cpp, launches.cpp, streams.cpp and graphs.cpp; what
// nccl.cpp asks for is in collectives.cpp.
#pragma once
#include "memory.hpp"
#include "races.hpp"
#include "timeline.hpp"
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#define API extern "C" int

namespace standin {

enum Result {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
    INVALID_IMAGE = 200, PEER_UNSUPPORTED = 217, INVALID_HANDLE = 400, NOT_FOUND = 500,
    NOT_READY = 600, ILLEGAL_ADDRESS = 700, PEER_ALREADY_ENABLED = 704, PEER_NOT_ENABLED = 705,
    LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 906, UPDATE_FAILED = 910
};

inline std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;
inline Memory memory;

/// What tests read: see `standin_counters`.
struct Counters {
    uint64_t launches, uploads, upload_bytes, downloads, download_bytes, peer_copies, peer_bytes,
        local_copies, local_bytes, host_waits, graphs, graph_launches,
        peer_touched;  // launches times buffers of another device that they touched
};
inline Counters counters;

inline const char* text_setting(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value && *value ? value : otherwise;
}
inline long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value && *value ? atol(value) : otherwise;
}
inline int devices() { return setting("STANDIN_DEVICES", 2); }
inline size_t device_memory() { return setting("STANDIN_MEMORY", 4l << 30); }

struct Queued {
    std::function<int()> run;
    uint32_t work = 0;                // for races.hpp, of a copy or launch
    std::vector<uint64_t> addresses;  // that it was given
};

struct Stream {
    int device = 0;
    uint32_t number = 0;  // for races.hpp
    bool destroyed = false;
    std::deque<Queued> queue;
    uint64_t done = 0;  // operations that have run since the beginning
    uint64_t queued() const { return done + queue.size(); }
};

struct Event {
    int device = 0;
    bool timed = true, destroyed = false;
    Stream* stream = nullptr;  // where it was recorded last, and how much work was queued by then
    uint64_t position = 0;
    uint32_t record = 0;       // for races.hpp
    double time = 0;
};

struct Context {
    int device;
    int error = SUCCESS;  // sticky, as on a GPU
    unsigned flags = 0;
    Stream standard;
    std::vector<Stream*> streams;
    bool reaches[16] = {};  // peer access, from this context's device
};

inline Context contexts[16];
inline thread_local Context* current = nullptr;

inline Context& context_of(int device) {
    return contexts[device].device = device, contexts[device];
}

inline void report(const std::string& sentence) {
    fprintf(stderr, "stand-in: %s\n", sentence.c_str());
}

/// Reports what is wrong, if anything is: `code` or SUCCESS.
inline int report(const std::string& sentence, int code) {
    if (sentence.empty()) return SUCCESS;
    return report(sentence), code;
}

inline uint32_t running = 0;  // the work that runs now, for races.hpp

/// Runs the stream's oldest operations until `position` of them are done.
inline int force(Stream* stream, uint64_t position) {
    Context& context = context_of(stream->device);
    while (stream->done < position && !stream->queue.empty()) {
        Queued next = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        if (context.error) continue;
        uint32_t outer = running;
        running = next.work;
        int result = next.run();
        running = outer;
        if (context.error == SUCCESS) context.error = result;
    }
    return context.error;
}

inline int force_all(Context& context) {
    force(&context.standard, context.standard.queued());
    for (Stream* stream : context.streams) force(stream, stream->queued());
    return context.error;
}

inline Stream* stream_of(void* handle) {
    Stream* stream = handle ? static_cast<Stream*>(handle) : &current->standard;
    if (!handle) stream->device = current->device;
    if (stream->number) return stream;
    auto& all = current->streams;
    size_t index = std::find(all.begin(), all.end(), stream) - all.begin() + 1;
    std::string name = handle ? "stream " + std::to_string(index) : "the default stream";
    stream->number = races.stream(name + " of device " + std::to_string(stream->device));
    return stream;
}

/// What a thread captures, as calls to be made again.
struct Capture {
    Stream* origin;
    std::vector<std::function<int()>> calls;
    std::map<Stream*, size_t> done;    // work on each stream that takes part
    std::map<Stream*, size_t> joined;  // of them those that the origin has waited for
    std::map<Event*, std::pair<Stream*, size_t>> recorded;
    bool broken = false;

    bool has(Stream* stream) const { return done.count(stream) > 0; }
    int add(Stream* stream, std::function<int()> call, bool work = false) {
        done[stream] += work;  // records and waits are none
        calls.push_back(std::move(call));
        return SUCCESS;
    }
};
inline thread_local Capture* capture = nullptr;

/// What the host may not do while it captures: wait.
inline int uncaptured() {
    if (capture) capture->broken = true;
    return capture ? int(CAPTURE_UNSUPPORTED) : int(SUCCESS);
}

inline int enqueue(Stream* stream, Queued work) {
    if (context_of(stream->device).error) return context_of(stream->device).error;
    stream->queue.push_back(std::move(work));
    return setting("STANDIN_EAGER", 0) ? force(stream, stream->queued()) : int(SUCCESS);
}

/// Queues what accesses no memory.
inline int enqueue(void* handle, std::function<int()> run) {
    Stream* stream = stream_of(handle);
    if (capture && capture->has(stream))
        return capture->add(stream, [=] { return enqueue(handle, run); }, true);
    return enqueue(stream, Queued{std::move(run), 0, {}});
}

/// Where a stream stands in its context's list, from 1.
inline size_t place_of(const Stream* stream) {
    auto& all = context_of(stream->device).streams;
    return std::find(all.begin(), all.end(), stream) - all.begin() + 1;
}

/// Queues a copy of so many bytes or a launch (0), with the addresses that it was given.
inline int enqueue(void* handle, const std::string& name, std::vector<uint64_t> addresses,
                   std::function<int()> run, size_t bytes = 0) {
    Stream* stream = stream_of(handle);
    if (capture && capture->has(stream))
        return capture->add(stream, [=] { return enqueue(handle, name, addresses, run, bytes); },
                            true);
    if (timeline.on()) {
        timeline.line("{\"work\":\"%s\",\"device\":%d,\"stream\":%zu,\"bytes\":%zu}",
                      name.c_str(), stream->device, place_of(stream), bytes);
        return bytes && bytes <= Timeline::MADE ? run() : int(SUCCESS);
    }
    uint32_t work = races.work(stream->number, name);
    return enqueue(stream, Queued{std::move(run), work, std::move(addresses)});
}

/// The work that runs now accesses these bytes.
inline int access(const void* p, size_t bytes, bool write) {
    return report(races.access(running, p, bytes, write), LAUNCH_FAILED);
}

/// A buffer is no more: what is kept of accesses to it goes, too.
void forget_cells(char* buffer);

inline char* pointer(uint64_t p) { return reinterpret_cast<char*>(p); }

}  // namespace standin
