// Races within a launch: of threads of a block between two barriers, in shared and in global memory,
// and of blocks, which nothing orders. Sees every access of a kernel that is compiled with
// -fsanitize=thread, and hands on which bytes the launch as a whole read and wrote.
//
// Of each few bytes it keeps who wrote them last and two who read them since. Two are enough: of
// two that are of different blocks, or of different warps between the same barriers, at least one
// is out of order with whoever writes next.
#pragma once
#include "memory.hpp"
#include <algorithm>
#include <vector>

namespace standin {

/// One thread's place in a launch. Blocks are numbered through all launches, from 1.
struct Stamp {
    uint32_t block = 0;
    uint32_t epoch = 0;       // barriers that the block has passed
    uint32_t warp_epoch = 0;  // barriers and collectives that the warp has passed
    uint16_t thread = 0;
    bool flying = false;      // an asynchronous copy that its thread has not waited for

    unsigned warp() const { return thread / 32; }

    bool before(const Stamp& next) const {
        if (block != next.block) return false;
        return thread == next.thread || epoch < next.epoch ||
               (warp() == next.warp() && warp_epoch < next.warp_epoch);
    }
};

/// Some bytes that were always accessed together.
struct Cell {
    Stamp writer, reader, other;

    /// `first` is the first block whose accesses count.
    void read(const Stamp& now, uint32_t first) {
        if (reader.block < first) return reader = now, other = {}, void();
        bool two = other.block >= first;
        if (reader.block != now.block) return two && other.block != reader.block ? void()
                                                                                 : void(other = now);
        if (two && other.block != reader.block) return;
        if (reader.epoch < now.epoch) return reader = now, other = {}, void();
        if (two && other.warp() != reader.warp()) return;
        if (reader.warp() != now.warp()) return other = now, void();
        if (reader.warp_epoch < now.warp_epoch) return reader = now, other = {}, void();
        if (reader.thread != now.thread) other = now;
    }
};

/// The cells of one buffer, or of a module's shared memory.
struct Cells {
    char *begin, *end;
    size_t bytes_each = 4;
    uint32_t launch = 0;  // the first block of the last launch that touched them
    std::vector<Cell> cells;

    Cells(char* begin, char* end) : begin(begin), end(end), cells((end - begin + 3) / 4) {}

    /// Narrower cells, for accesses that are no multiples of a cell.
    void divide(size_t offset, size_t size) {
        while (bytes_each > 1 && (offset % bytes_each || size % bytes_each)) {
            std::vector<Cell> halves;
            for (const Cell& cell : cells) halves.insert(halves.end(), 2, cell);
            cells.swap(halves);
            bytes_each /= 2;
        }
    }
};

/// The memory that a launch touches.
struct Blocks {
    std::map<char*, Cells> known;
    Cells* found[64] = {};         // by place in the code: what it accessed last
    Cells* shared = nullptr;
    std::vector<Cells*> touched;   // by this launch
    uint32_t first = 1, block = 0;  // of this launch; the present one
    uint32_t epoch = 0, warp_epochs[32] = {};
    const char *hole = nullptr, *hole_end = nullptr;  // where no memory of a device is
    std::string wrong;             // the first race

    void begin_launch(char* shared_begin, char* shared_end) {
        first = block + 1;
        touched.clear();
        wrong.clear();
        hole = hole_end = nullptr;
        shared = nullptr;
        if (shared_begin == shared_end) return;
        shared = &known.try_emplace(shared_begin, shared_begin, shared_end).first->second;
    }

    void begin_block() {
        block++;
        epoch = 0;
        std::fill(std::begin(warp_epochs), std::end(warp_epochs), 0);
    }

    void barrier() {
        epoch++;
        for (uint32_t& of_warp : warp_epochs) of_warp++;
    }

    Stamp stamp(unsigned thread) const {
        return {block, epoch, warp_epochs[thread / 32], uint16_t(thread), false};
    }

    Cells* find(const Memory& memory, const char* p, uintptr_t place) {
        if (shared && p >= shared->begin && p < shared->end) return shared;
        if (p >= hole && p < hole_end) return nullptr;
        Cells*& last = found[place / 4 % 64];
        if (last && p >= last->begin && p < last->end) return last;
        const Buffer* buffer = memory.holding(p, &hole, &hole_end);
        if (!buffer) return nullptr;
        auto cells = known.try_emplace(buffer->begin, buffer->begin, buffer->end()).first;
        return last = &cells->second;
    }

    /// The buffer is no more.
    void forget(char* begin) {
        known.erase(begin);
        std::fill(std::begin(found), std::end(found), nullptr);
        hole = hole_end = nullptr;
    }

    /// What `now` would be in conflict with, or nullptr.
    const Stamp* conflict(const Cells& of, const Cell& cell, const Stamp& now, bool write) const {
        uint32_t since = &of == shared ? block : first;
        auto against = [&](const Stamp& s) { return s.block >= since && !s.before(now); };
        if (cell.writer.block >= since && cell.writer.flying) return &cell.writer;
        if (against(cell.writer)) return &cell.writer;
        if (write && against(cell.reader)) return &cell.reader;
        if (write && against(cell.other)) return &cell.other;
        return nullptr;
    }

    void access(Cells& of, const char* p, size_t size, const Stamp& now, bool write) {
        size_t offset = p - of.begin;
        of.divide(offset, size);
        if (of.launch != first) touched.push_back(&of);
        of.launch = first;
        size_t end = std::min((offset + size) / of.bytes_each, of.cells.size());
        for (size_t i = offset / of.bytes_each; i < end; i++) {
            Cell& cell = of.cells[i];
            if (const Stamp* other = conflict(of, cell, now, write)) {
                if (wrong.empty()) tell(of, cell, i, *other, now, write);
            }
            if (write) {
                cell.writer = now;
                cell.reader = cell.other = {};
            } else {
                cell.read(now, &of == shared ? block : first);
            }
        }
    }

    /// An asynchronous copy into shared memory has arrived: its thread has waited for it.
    void arrive(const char* p, size_t size) {
        if (!shared || p < shared->begin || p >= shared->end) return;
        for (size_t b = 0; b < size; b++) {
            shared->cells[(p + b - shared->begin) / shared->bytes_each].writer.flying = false;
        }
    }

    void tell(const Cells& of, const Cell& cell, size_t i, const Stamp& other, const Stamp& now,
              bool write) {
        auto text = [](size_t n) { return std::to_string(n); };
        const char* did = &other == &cell.writer ? "wrote" : "read";
        std::string what = &of == shared ? "shared memory"
                                         : "a buffer of " + text(of.end - of.begin) + " bytes";
        std::string whom = other.block == now.block ? "thread " + text(other.thread)
                                                    : "another block (" +
                               text(other.block - first) + " of the grid)";
        wrong = std::string("race: thread ") + text(now.thread) + (write ? " writes" : " reads") +
                " byte " + text(i * of.bytes_each) + " of " + what + ", which ";
        if (other.flying) {
            wrong += "an asynchronous copy of " + whom + " still has to write";
        } else {
            wrong += whom + " " + did + (other.block == now.block ? ", without a barrier between"
                                                                  : ", and no order holds between");
            if (other.block != now.block) wrong += " blocks";
        }
    }

    /// Calls `each(begin, end, written)` for all bytes of buffers that the launch touched.
    template <class Each> void intervals(Each each) {
        for (Cells* of : touched) {
            if (of == shared) continue;
            auto state = [&](size_t i) {
                if (i == of->cells.size()) return 0;
                const Cell& cell = of->cells[i];
                return cell.writer.block >= first ? 2 : cell.reader.block >= first ? 1 : 0;
            };
            for (size_t i = 0, begin = 0; i < of->cells.size(); i++) {
                if (i == 0 || state(i) != state(i - 1)) begin = i;
                if (state(i) == 0 || state(i) == state(i + 1)) continue;
                char* end = of->begin + (i + 1) * of->bytes_each;
                each(of->begin + begin * of->bytes_each, std::min(end, of->end), state(i) == 2);
            }
        }
    }
};

}  // namespace standin
