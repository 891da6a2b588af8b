// The stand-in for libcuda.so.1: what each wait of a program is for (STANDIN_WAITS). The calls are
// gone through again without that one; where no race follows, the wait was not needed.
#include "races.hpp"

namespace standin {

/// The first race there would be without this call, or "".
std::string Races::without(size_t left_out) const {
    Order order;
    order.streams.resize(streams.size());
    for (size_t i = 0; i < calls.size(); i++) {
        if (i != left_out) order.apply(calls[i]);
    }
    Shadow shadow;
    for (const Access& a : accesses) {
        if (a.work == NOBODY) {
            shadow.forget(a.begin, a.end);
            continue;
        }
        Conflict conflict = shadow.access(order, a.work, a.begin, a.end, a.write);
        if (conflict.work != NOBODY) return sentence(conflict, a.work, a.write);
    }
    return "";
}

/// One line of JSON for each wait that put anything in order.
void Races::write_waits(const char* path) const {
    FILE* file = fopen(path, "w");
    if (!file) return;
    uint32_t begun = 0;                          // works so far
    std::vector<uint32_t> last(streams.size(), NOBODY);  // of each stream
    std::vector<std::pair<uint32_t, uint32_t>> records;  // each one's stream and last work there
    auto named = [&](uint32_t work) { return work == NOBODY ? "nothing" : works[work].c_str(); };
    for (size_t i = 0; i < calls.size(); i++) {
        const Call& c = calls[i];
        if (c.kind == Call::WORK) last[c.stream] = begun++;
        if (c.kind == Call::RECORD) records.push_back({c.stream, last[c.stream]});
        if (c.kind == Call::WORK || c.kind == Call::RECORD || !c.orders) continue;
        bool for_stream = c.kind == Call::HOST_WAITS_FOR_STREAM;
        uint32_t waiter = c.kind == Call::WAIT ? c.stream : 0;
        auto [waited, behind] = for_stream ? std::make_pair(c.stream, last[c.stream])
                                           : records[c.record];
        uint32_t before = begun;
        while (before < works.size() && order.works[before].stream != waiter) before++;
        fprintf(file,
                "{\"waits\":\"%s\",\"for\":\"%s\",\"behind\":\"%s\",\"before\":\"%s\","
                "\"race\":\"%s\"}\n",
                streams[waiter].c_str(), streams[waited].c_str(), named(behind),
                named(before < works.size() ? before : NOBODY), without(i).c_str());
    }
    fclose(file);
}

}  // namespace standin
