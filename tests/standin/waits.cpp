// The stand-in for libcuda.so.1: what each wait of a program is for (STANDIN_WAITS). The calls are
// gone through again without it. Where the work behind it comes after all the same, because the
// host or another wait sees to that, it is not told of; else there has to be a race, or the wait
// was for nothing.
#include "races.hpp"

namespace standin {

/// The first race there would be without these calls, or "". `needless`: the work `before`, which
/// comes behind them, is in the same order without them.
std::string Races::without(const std::vector<size_t>& left_out, uint32_t before,
                           bool* needless) const {
    Order other;
    other.streams.resize(streams.size());
    for (size_t i = 0, next = 0; i < calls.size(); i++) {
        if (next < left_out.size() && left_out[next] == i) next++;
        else other.apply(calls[i]);
    }
    *needless = other.works[before].clock.covers(order.works[before].clock);
    if (*needless) return "";
    Shadow shadow;
    for (const Access& a : accesses) {
        if (a.work == NOBODY) {
            shadow.forget(a.begin, a.end);
            continue;
        }
        Conflict conflict = shadow.access(other, a.work, a.begin, a.end, a.write);
        if (conflict.work != NOBODY) return sentence(conflict, a.work, a.write);
    }
    return "";
}

/// One line of JSON for each wait of a stream for another; and where several come behind each
/// other, one for all of them.
void Races::write_waits(const char* path) const {
    FILE* file = fopen(path, "w");
    if (!file) return;
    std::vector<std::vector<size_t>> open(streams.size());  // each stream's waits since its last work
    std::vector<uint32_t> last(streams.size(), NOBODY);     // and that work
    std::vector<std::string> records;                       // behind which work each one was made
    auto tell = [&](const std::vector<size_t>& waits, uint32_t before) {
        bool needless = false;
        std::string race = without(waits, before, &needless);
        if (needless) return;
        const std::string& behind = records[calls[waits[0]].record];
        fprintf(file, "{\"before\":\"%s\",\"behind\":\"%s%s\",\"race\":\"%s\"}\n",
                name(before).c_str(), behind.c_str(), waits.size() > 1 ? ", and others" : "",
                race.c_str());
    };
    uint32_t begun = 0;  // works so far
    for (size_t i = 0; i < calls.size(); i++) {
        const Call& c = calls[i];
        uint32_t& own = last[c.stream];
        std::vector<size_t>& waits = open[c.stream];
        if (c.kind == Call::WAIT) waits.push_back(i);
        if (c.kind == Call::RECORD)
            records.push_back(own == NOBODY ? "nothing " + streams[c.stream] : name(own));
        if (c.kind != Call::WORK) continue;
        for (size_t wait : waits) tell({wait}, begun);
        if (waits.size() > 1) tell(waits, begun);
        waits.clear();
        own = begun++;
    }
    fclose(file);
}

}  // namespace standin
