// Who wrote and who read every byte last, in segments, and whether the next one who does comes
// after them by the clocks (order.hpp).
#pragma once
#include "order.hpp"
#include <algorithm>
#include <map>

namespace standin {

constexpr uint32_t NOBODY = ~0u;

/// An earlier access, by whom and to which bytes, that nothing puts before the present one.
struct Conflict {
    uint32_t work = NOBODY;
    bool wrote = false;
    uintptr_t begin = 0, end = 0;
};

class Shadow {
    struct Segment {
        uintptr_t end;
        uint32_t writer = NOBODY;
        std::vector<uint32_t> readers;  // since that write; none of them before another
        bool like(const Segment& o) const { return writer == o.writer && readers == o.readers; }
    };
    std::map<uintptr_t, Segment> segments;

    void split(uintptr_t at) {
        auto next = segments.upper_bound(at);
        if (next == segments.begin()) return;
        auto own = std::prev(next);
        if (own->first == at || own->second.end <= at) return;
        segments[at] = own->second;
        own->second.end = at;
    }

    template <class Done>
    static Conflict conflict(uintptr_t begin, const Segment& s, bool readers_too, Done done) {
        if (s.writer != NOBODY && !done(s.writer)) return {s.writer, true, begin, s.end};
        for (uint32_t reader : s.readers) {
            if (readers_too && !done(reader)) return {reader, false, begin, s.end};
        }
        return {};
    }

    /// Makes one of neighbours that are alike, from the one before `begin` to the one at `end`.
    void merge(uintptr_t begin, uintptr_t end) {
        auto own = segments.lower_bound(begin);
        if (own != segments.begin()) own--;
        while (own != segments.end() && own->first <= end) {
            auto next = std::next(own);
            if (next == segments.end()) return;
            if (own->second.end == next->first && own->second.like(next->second)) {
                own->second.end = next->second.end;
                segments.erase(next);
            } else {
                own = next;
            }
        }
    }

  public:
    /// Work `work` reads or writes these bytes. The first conflict, if there is one.
    Conflict access(const Order& order, uint32_t work, uintptr_t begin, uintptr_t end, bool write) {
        auto done = [&](uint32_t earlier) { return earlier == work || order.before(earlier, work); };
        Conflict first;
        split(begin);
        split(end);
        auto segment = segments.lower_bound(begin);
        for (uintptr_t at = begin; at < end; at = segment->second.end, segment++) {
            if (segment == segments.end() || segment->first > at) {
                uintptr_t gap = segment == segments.end() ? end : std::min(end, segment->first);
                segment = segments.emplace_hint(segment, at, Segment{gap, NOBODY, {}});
            }
            Segment& s = segment->second;
            if (first.work == NOBODY) first = conflict(at, s, write, done);
            if (write) {
                s.writer = work;
                s.readers.clear();
            } else {
                auto old = std::remove_if(s.readers.begin(), s.readers.end(), done);
                s.readers.erase(old, s.readers.end());
                s.readers.push_back(work);
            }
        }
        merge(begin, end);
        return first;
    }

    /// The first access to these bytes that is not done for certain where `known` is known.
    Conflict unfinished(const Order& order, const Clock& known, uintptr_t begin, uintptr_t end) {
        auto done = [&](uint32_t work) { return order.done(work, known); };
        split(begin);
        for (auto s = segments.lower_bound(begin); s != segments.end() && s->first < end; s++) {
            Conflict found = conflict(s->first, s->second, true, done);
            if (found.work != NOBODY) return found;
        }
        return {};
    }

    void forget(uintptr_t begin, uintptr_t end) {
        split(begin);
        split(end);
        segments.erase(segments.lower_bound(begin), segments.lower_bound(end));
    }
};

}  // namespace standin
