// The stand-in for libcuda.so.1: races between copies, launches and the host as sentences
// (races.hpp).
#include "driver.hpp"

namespace standin {

namespace {

uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

/// FNV-1a, 8 bytes at a time.
uint64_t checksum(uintptr_t begin, uintptr_t end) {
    uint64_t sum = 0xcbf29ce484222325;
    while (begin < end) {
        uint64_t part = 0;
        size_t bytes = std::min<size_t>(8, end - begin);
        memcpy(&part, reinterpret_cast<const char*>(begin), bytes);
        sum = (sum ^ part) * 0x100000001b3;
        sum ^= sum >> 29;
        begin += bytes;
    }
    return sum;
}

}  // namespace

std::string Races::sentence(const Conflict& other, uint32_t work, bool write) const {
    std::string where = "of host memory at ";
    const char* first = reinterpret_cast<const char*>(other.begin);
    uintptr_t base = 0;
    const char *gap, *gap_end;
    const Buffer* b = memory.holding(first, &gap, &gap_end);
    auto gone = freed.upper_bound(other.begin);
    if (!b && gone != freed.begin() && first < std::prev(gone)->second.end())
        b = &std::prev(gone)->second;
    if (b) {
        base = number(b->begin);
        where = "of a buffer of " + std::to_string(b->bytes) + " bytes on device " +
                std::to_string(b->device);
    } else {
        char text[32];
        snprintf(text, sizeof text, "%p", first);
        where += text;
        base = other.begin;
    }
    return "race: " + name(work) + (write ? " writes" : " reads") + " bytes " +
           std::to_string(other.begin - base) + " to " + std::to_string(other.end - base) + " " +
           where + ", which " + name(other.work) + (other.wrote ? " writes" : " reads") +
           ", and nothing puts one before the other";
}

std::string Races::access(uint32_t work, const void* p, size_t bytes, bool write) {
    if (!on || bytes == 0) return "";
    uintptr_t begin = number(p), end = begin + bytes;
    if (keeps) accesses.push_back({work, begin, end, write});
    const char *gap, *gap_end;
    if (write && !memory.holding(static_cast<const char*>(p), &gap, &gap_end)) {
        for (auto& weak : sources) {
            auto source = weak.lock();
            if (source && source->begin < end && begin < source->end) source->ours = false;
        }
        for (auto known = sums.begin(); known != sums.end();) {
            bool hit = known->first.first < end && begin < known->first.second;
            known = hit ? sums.erase(known) : std::next(known);
        }
    }
    Conflict conflict = shadow.access(order, work, begin, end, write);
    return conflict.work == NOBODY ? "" : sentence(conflict, work, write);
}

std::string Races::give_back(const Buffer& buffer, const std::vector<uint32_t>& waits_for) {
    if (!on) return "";
    uintptr_t begin = number(buffer.begin), end = begin + buffer.bytes;
    Clock known = order.streams[0];
    for (uint32_t stream : waits_for) {
        if (stream < order.streams.size()) known.join(order.streams[stream]);
    }
    Conflict other = shadow.unfinished(order, known, begin, end);
    shadow.forget(begin, end);
    if (keeps) {
        accesses.push_back({NOBODY, begin, end, true});
        freed[begin] = buffer;
    }
    if (other.work == NOBODY) return "";
    return "race: a buffer of " + std::to_string(buffer.bytes) + " bytes is given back, which " +
           name(other.work) + (other.wrote ? " writes" : " reads") +
           ", and nothing has waited for that";
}

std::shared_ptr<Races::Source> Races::source(const void* p, size_t bytes, std::string* wrong) {
    auto source = std::make_shared<Source>();
    if (!on) return source;
    *source = {number(p), number(p) + bytes, checksum(number(p), number(p) + bytes)};
    auto known = sums.find({source->begin, source->end});
    if (known != sums.end() && known->second != source->sum)
        *wrong = access(work(0, "a change of memory"), p, bytes, true);
    sums[{source->begin, source->end}] = source->sum;
    auto gone = [](auto& weak) { return weak.expired(); };
    sources.erase(std::remove_if(sources.begin(), sources.end(), gone), sources.end());
    sources.push_back(source);
    return source;
}

std::string Races::read_source(const Source& source, uint32_t work) const {
    if (!on || !source.ours || checksum(source.begin, source.end) == source.sum) return "";
    return "race: the host has changed memory that " + name(work) + " still had to read";
}

}  // namespace standin
