// Device memory of the stand-in: every buffer in pages of its own, poisoned (all bits set: NaN),
// with an unmapped page before it and one right behind its last 16 bytes. Only the buffers of one
// device are open at a time, so that a kernel of device 0 cannot touch a pointer of device 1.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace standin {

constexpr size_t PAGE = 4096;
constexpr unsigned char SLACK = 0xa5;  // between a buffer's last byte and the next multiple of 16

struct Buffer {
    char* begin;
    size_t bytes;
    int device;
    char* pages;        // first mapped page, the guard page
    size_t page_bytes;  // without the two guards
    char* end() const { return begin + bytes; }
};

struct Memory {
    std::map<char*, Buffer> buffers;
    int open_device = -1;
    bool idle = getenv("STANDIN_TIMELINE") != nullptr;  // no kernel runs: all stay open, unwritten
    size_t used[16] = {};
    std::vector<char*> lent;  // buffers of other devices that are open, too

    /// What a buffer takes of a device's memory: large ones whole pieces of 2 MiB. (Small ones
    /// share such pieces on a GPU; here they take what they are.)
    static size_t taken(size_t bytes) {
        constexpr size_t PIECE = 2 << 20;
        return bytes < PIECE / 2 ? bytes : (bytes + PIECE - 1) / PIECE * PIECE;
    }

    void protect(const Buffer& b, bool open) {
        mprotect(b.pages + PAGE, b.page_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }

    /// Makes the buffers of `device` usable and all others a fault.
    void open(int device) {
        if (device == open_device || idle) return;
        for (char* begin : lent) {
            if (auto b = buffers.find(begin); b != buffers.end()) protect(b->second, false);
        }
        lent.clear();
        for (auto& [_, buffer] : buffers) {
            if (buffer.device == device || buffer.device == open_device)
                protect(buffer, buffer.device == device);
        }
        open_device = device;
    }

    /// Opens one buffer more, until another device's are opened.
    void lend(const Buffer& buffer) {
        protect(buffer, true);
        lent.push_back(buffer.begin);
    }

    char* take(int device, size_t bytes) {
        // A GPU's buffers begin at multiples of 256 bytes; that matters only where sectors are
        // counted.
        size_t unit = getenv("STANDIN_SAMPLE") ? 256 : 16;
        size_t padded = (bytes + unit - 1) / unit * unit;
        size_t page_bytes = (padded + PAGE - 1) / PAGE * PAGE;
        void* pages = mmap(nullptr, page_bytes + 2 * PAGE, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) return nullptr;
        char* first = static_cast<char*>(pages);
        Buffer buffer{first + PAGE + page_bytes - padded, bytes, device, first, page_bytes};
        open(device);
        protect(buffer, true);
        if (!idle) memset(buffer.begin, 0xff, bytes);
        memset(buffer.end(), SLACK, padded - bytes);
        buffers[buffer.begin] = buffer;
        used[device] += taken(bytes);
        return buffer.begin;
    }

    /// "" or a sentence about bytes written behind the buffer.
    std::string give_back(char* begin) {
        auto found = buffers.find(begin);
        if (found == buffers.end()) return "a pointer is freed that was never allocated";
        Buffer buffer = found->second;
        std::string wrong = slack(buffer);
        munmap(buffer.pages, buffer.page_bytes + 2 * PAGE);
        used[buffer.device] -= taken(buffer.bytes);
        buffers.erase(found);
        return wrong;
    }

    std::string slack(const Buffer& buffer) {
        open(buffer.device);
        for (char* p = buffer.end(); (p - buffer.begin) % 16; p++) {
            if (static_cast<unsigned char>(*p) != SLACK)
                return "something wrote behind a buffer of " + std::to_string(buffer.bytes) +
                       " bytes";
        }
        return "";
    }

    /// The buffer that holds `p`, or nullptr and the gap between buffers where it lies.
    const Buffer* holding(const char* p, const char** gap, const char** gap_end) const {
        auto next = buffers.upper_bound(const_cast<char*>(p));
        const char* before = nullptr;
        if (next != buffers.begin()) {
            const Buffer& buffer = std::prev(next)->second;
            if (p < buffer.end()) return &buffer;
            before = buffer.end();
        }
        *gap = before;
        *gap_end = next == buffers.end() ? reinterpret_cast<char*>(UINTPTR_MAX) : next->first;
        return nullptr;
    }

    /// The buffer that holds or lies next to `address`, or nullptr.
    const Buffer* near(const char* address) {
        auto found = buffers.upper_bound(const_cast<char*>(address));
        auto around = [&](const Buffer& b) {
            return address >= b.pages && address < b.pages + b.page_bytes + 2 * PAGE;
        };
        if (found != buffers.end() && around(found->second)) return &found->second;
        if (found == buffers.begin()) return nullptr;
        const Buffer& before = std::prev(found)->second;
        return around(before) ? &before : nullptr;
    }

    /// What is wrong with `[p, p + bytes)` as memory of `device`, or "".
    std::string check(const char* p, size_t bytes, int device) {
        const Buffer* b = near(p);
        if (!b || p < b->begin || p + bytes > b->end()) return "a copy leaves its buffer";
        if (b->device != device)
            return "a pointer of device " + std::to_string(b->device) + " is used on device " +
                   std::to_string(device);
        return "";
    }
};

}  // namespace standin
