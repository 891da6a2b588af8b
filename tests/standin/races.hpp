// Races between copies, launches and the host (STANDIN_RACES=1): what the calls put in order
// (order.hpp) against what each of them accesses (shadow.hpp). Kernels tell what they access where
// they are compiled with -fsanitize=thread (blocks.hpp).
//
// With STANDIN_WAITS=file it says there which race there would be without each of the waits
// (waits.cpp).
#pragma once
#include "memory.hpp"
#include "shadow.hpp"
#include <cstdio>
#include <memory>

namespace standin {

struct Races {
    /// Host memory that a queued copy reads, as it was when the copy was queued.
    struct Source {
        uintptr_t begin, end;
        uint64_t sum;
        bool ours = true;  // no copy from a device has written there since
    };
    /// What one copy or launch did, in the order in which the stand-in ran them.
    struct Access {
        uint32_t work;  // NOBODY: the memory was given back
        uintptr_t begin, end;
        bool write;
    };

    bool on = getenv("STANDIN_RACES") != nullptr, keeps = getenv("STANDIN_WAITS") != nullptr;
    Order order;
    Shadow shadow;
    std::vector<std::string> streams{"by the host"};
    std::vector<std::string> works;  // parallel to the order's
    std::vector<Call> calls;
    std::vector<Access> accesses;
    std::map<uintptr_t, Buffer> freed;  // for sentences about them
    std::vector<std::weak_ptr<Source>> sources;
    std::map<std::pair<uintptr_t, uintptr_t>, uint64_t> sums;  // of host memory copied before

    /// A new stream's number.
    uint32_t stream(const std::string& name) {
        streams.push_back("on " + name);
        order.streams.resize(streams.size());
        return streams.size() - 1;
    }

    /// The number of the call's work or record.
    uint32_t call(const Call& call) {
        if (!on) return 0;
        order.apply(call);
        if (keeps) calls.push_back(call);
        return (call.kind == Call::WORK ? order.works.size() : order.records.size()) - 1;
    }
    uint32_t work(uint32_t stream, const std::string& name) {
        if (on) works.push_back(name);
        return call({Call::WORK, stream});
    }
    /// Whether such a wait would put anything in order.
    bool would_order(uint32_t stream, uint32_t record) const {
        Clock known = order.streams[stream];
        known.join(order.streams[0]);
        return known.join(order.records[record]);
    }

    /// Work `work` accesses these bytes now; "" or a sentence.
    std::string access(uint32_t work, const void* p, size_t bytes, bool write);

    /// Memory is given back, and the driver waits for the work of these streams first.
    std::string give_back(const Buffer& buffer, const std::vector<uint32_t>& waits_for);

    /// A copy from this host memory is queued. Where the memory is not what it was at the last such
    /// copy, the host has changed it, and should have waited first.
    std::shared_ptr<Source> source(const void* p, size_t bytes, std::string* wrong);
    /// That copy runs now; "" or a sentence.
    std::string read_source(const Source& source, uint32_t work) const;

    std::string name(uint32_t work) const {
        return works[work] + " (" + streams[order.works[work].stream] + ")";
    }
    std::string sentence(const Conflict& other, uint32_t work, bool write) const;
    void write_waits(const char* path) const;
    std::string without(const std::vector<size_t>& calls, uint32_t before, bool* needless) const;
};
inline Races races;

}  // namespace standin
