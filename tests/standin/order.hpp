// Which work happens before which, by the calls alone: vector clocks over the host and the streams.
// It does not matter when the stand-in ran something, so what is not ordered here is a race
// whatever the schedule.
//
// All host threads are one: what one of them has waited for, work that any of them queues later
// comes after. Copies and launches are work on their stream; what the host does to memory that the
// device reads or writes is work on stream 0, the host's own.
#pragma once
#include <cstdint>
#include <vector>

namespace standin {

/// How much of each stream's work is done for certain.
struct Clock {
    std::vector<uint32_t> done;  // [stream]

    uint32_t of(size_t stream) const { return stream < done.size() ? done[stream] : 0; }

    /// Whether it knows all that the other knows.
    bool covers(const Clock& other) const { return !Clock(*this).join(other); }

    void tick(size_t stream) {
        if (done.size() <= stream) done.resize(stream + 1);
        done[stream]++;
    }

    /// Takes over what the other knows; whether anything of it is new.
    bool join(const Clock& other) {
        bool news = false;
        if (done.size() < other.done.size()) done.resize(other.done.size());
        for (size_t s = 0; s < other.done.size(); s++) {
            if (done[s] >= other.done[s]) continue;
            done[s] = other.done[s];
            news = true;
        }
        return news;
    }
};

/// One call that makes order.
struct Call {
    enum Kind { WORK, RECORD, WAIT, HOST_WAITS_FOR_STREAM, HOST_WAITS_FOR_EVENT } kind;
    uint32_t stream;      // that works, records or waits, or is waited for by the host
    uint32_t record = 0;  // which of all records is waited for
};

/// The clocks that a sequence of calls makes.
struct Order {
    struct Work { uint32_t stream; Clock clock; };
    std::vector<Clock> streams{1};
    std::vector<Work> works;     // in the order of their calls
    std::vector<Clock> records;

    /// Whether the call put anything in order.
    bool apply(const Call& call) {
        if (streams.size() <= call.stream) streams.resize(call.stream + 1);
        Clock &own = streams[call.stream], &host = streams[0];
        switch (call.kind) {
            case Call::WORK:
                own.join(Clock(host));
                own.tick(call.stream);
                return works.push_back({call.stream, own}), true;
            case Call::RECORD:
                own.join(Clock(host));
                return records.push_back(own), true;
            case Call::WAIT:
                own.join(Clock(host));
                return own.join(records[call.record]);
            case Call::HOST_WAITS_FOR_STREAM: return host.join(Clock(own));
            case Call::HOST_WAITS_FOR_EVENT: return host.join(records[call.record]);
        }
        return false;
    }

    /// Whether work `a` is done for certain where this is known.
    bool done(uint32_t a, const Clock& known) const {
        return known.of(works[a].stream) >= works[a].clock.of(works[a].stream);
    }
    bool before(uint32_t a, uint32_t b) const { return done(a, works[b].clock); }
};

}  // namespace standin
