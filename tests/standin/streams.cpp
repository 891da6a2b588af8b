// The stand-in for libcuda.so.1: streams, and the events that order them.
#include "driver.hpp"
#include <chrono>

using namespace standin;

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
    if (int code = uncaptured()) return code;
    counters.host_waits++;
    Stream* stream = stream_of(handle);
    return force(stream, stream->queued());
}
API cuEventCreate(Event** out, unsigned) { return *out = new Event, SUCCESS; }
API cuEventDestroy_v2(Event*) { return SUCCESS; }  // waits already queued may still name it
API cuEventRecord(Event* event, void* handle) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (capture && capture->has(stream)) {
        capture->recorded[event] = {stream, capture->done[stream]};
        return capture->add(stream, [=] { return cuEventRecord(event, stream); });
    }
    int result = enqueue(stream, [=] {
        auto now = std::chrono::steady_clock::now().time_since_epoch();
        event->time = std::chrono::duration<double, std::milli>(now).count();
        return int(SUCCESS);
    });
    event->stream = stream_of(stream);
    event->position = event->stream->queued();
    return result;
}
API cuStreamWaitEvent(void* handle, Event* event, unsigned) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (capture && capture->recorded.count(event)) {
        auto [giver, calls] = capture->recorded[event];
        if (stream == capture->origin) capture->joined[giver] = calls;
        return capture->add(stream, [=] { return cuStreamWaitEvent(stream, event, 0); });
    }
    if (capture && capture->has(stream)) {
        capture->broken = true;
        return CAPTURE_ISOLATION;
    }
    if (!event->stream || setting("STANDIN_DROP_WAITS", 0)) return SUCCESS;
    Stream* other = event->stream;
    uint64_t position = event->position;
    return enqueue(stream, [=] { return force(other, position); });
}
API cuEventSynchronize(Event* event) {
    Guard guard(lock);
    if (int code = uncaptured()) return code;
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
