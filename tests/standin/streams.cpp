// The stand-in for libcuda.so.1: streams, and the events that order them.
#include "driver.hpp"
#include <chrono>

using namespace standin;

namespace {

constexpr unsigned DISABLE_TIMING = 2;

/// Whether this wait is left out: a planted fault.
bool dropped(const Stream& stream, const Event& event) {
    static long orders = 0;
    if (setting("STANDIN_DROP_WAITS", 0)) return true;
    long which = setting("STANDIN_DROP_WAIT", 0);
    return which && races.would_order(stream.number, event.record) && ++orders == which;
}

/// The event is done, and the host knows it.
int known(const Event& event, int result) {
    if (event.stream) {
        races.call({Call::HOST_WAITS_FOR_EVENT, event.stream->number, event.record});
    }
    return result;
}

}  // namespace

API cuStreamCreate(Stream** out, unsigned) {
    Guard guard(lock);
    if (!current) return INVALID_CONTEXT;
    *out = new Stream;
    (*out)->device = current->device;
    current->streams.push_back(*out);
    stream_of(*out);
    return SUCCESS;
}
API cuStreamCreateWithPriority(Stream** out, unsigned flags, int) {
    return cuStreamCreate(out, flags);
}
API cuStreamDestroy_v2(Stream* stream) {
    Guard guard(lock);
    force(stream, stream->queued());  // its events may still be waited for: it stays in the list
    return stream->destroyed = true, SUCCESS;
}
API cuStreamSynchronize(void* handle) {
    Guard guard(lock);
    if (int code = uncaptured()) return code;
    counters.host_waits++;
    Stream* stream = stream_of(handle);
    timeline.line("{\"host_waits_for\":\"stream\",\"device\":%d,\"stream\":%zu}", stream->device,
                  place_of(stream));
    if (stream->destroyed) return INVALID_HANDLE;
    int result = force(stream, stream->queued());
    races.call({Call::HOST_WAITS_FOR_STREAM, stream->number});
    return result;
}
API cuEventCreate(Event** out, unsigned flags) {
    if (!current) return INVALID_CONTEXT;
    *out = new Event;
    (*out)->device = current->device;
    (*out)->timed = !(flags & DISABLE_TIMING);
    return SUCCESS;
}
API cuEventDestroy_v2(Event* event) {
    return event->destroyed = true, SUCCESS;  // waits already queued may still name it
}
API cuEventRecord(Event* event, void* handle) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (capture && capture->has(stream)) {
        capture->recorded[event] = {stream, capture->done[stream]};
        return capture->add(stream, [=] { return cuEventRecord(event, stream); });
    }
    if (event->destroyed || stream->destroyed || event->device != stream->device)
        return report("an event is recorded that is gone or of another context", INVALID_HANDLE);
    if (timeline.on()) {
        timeline.line("{\"record\":%zu,\"device\":%d,\"stream\":%zu}", size_t(event),
                      stream->device, place_of(stream));
        return event->stream = stream, SUCCESS;
    }
    int result = enqueue(handle, [=] {
        auto now = std::chrono::steady_clock::now().time_since_epoch();
        event->time = std::chrono::duration<double, std::milli>(now).count();
        return int(SUCCESS);
    });
    event->stream = stream;
    event->position = stream->queued();
    event->record = races.call({Call::RECORD, stream->number});
    return result;
}
API cuStreamWaitEvent(void* handle, Event* event, unsigned) {
    Guard guard(lock);
    Stream* stream = stream_of(handle);
    if (capture && capture->recorded.count(event)) {
        auto [giver, work] = capture->recorded[event];
        if (stream == capture->origin) capture->joined[giver] = work;
        return capture->add(stream, [=] { return cuStreamWaitEvent(stream, event, 0); });
    }
    if (capture && capture->has(stream)) {
        capture->broken = true;
        return CAPTURE_ISOLATION;
    }
    if (event->destroyed || stream->destroyed)
        return report("a stream that is gone waits, or for an event that is", INVALID_HANDLE);
    if (!event->stream || dropped(*stream, *event)) return SUCCESS;
    if (timeline.on()) {
        timeline.line("{\"wait\":%zu,\"device\":%d,\"stream\":%zu}", size_t(event),
                      stream->device, place_of(stream));
        return SUCCESS;
    }
    races.call({Call::WAIT, stream->number, event->record});
    Stream* other = event->stream;
    uint64_t position = event->position;
    return enqueue(handle, [=] { return force(other, position); });
}
API cuEventSynchronize(Event* event) {
    Guard guard(lock);
    if (int code = uncaptured()) return code;
    counters.host_waits++;
    timeline.line("{\"host_waits_for\":\"event\",\"event\":%zu}", size_t(event));
    if (event->destroyed) return INVALID_HANDLE;
    return known(*event, event->stream ? force(event->stream, event->position) : int(SUCCESS));
}
API cuEventQuery(Event* event) {
    Guard guard(lock);
    if (event->destroyed) return INVALID_HANDLE;
    if (!event->stream || event->stream->done >= event->position) return known(*event, SUCCESS);
    int result = force(event->stream, event->stream->done + 1);  // a GPU would go on by itself
    return result ? result : int(NOT_READY);
}
API cuEventElapsedTime(float* milliseconds, Event* a, Event* b) {
    Guard guard(lock);
    for (Event* event : {a, b}) {
        if (event->destroyed || !event->timed || !event->stream || event->device != a->device)
            return INVALID_HANDLE;
        if (event->stream->done < event->position) return NOT_READY;
    }
    return *milliseconds = float(b->time - a->time), SUCCESS;
}
