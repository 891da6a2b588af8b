// Counts memory accesses the way a GPU serves them: by warp. For paper evidence on kernels that are
// compiled with -fsanitize=thread, whose hooks (cuda_on_cpu.hpp) report every access here.
//
// The n-th time that the lanes of a warp pass the same instruction makes one request. A global
// request costs the 32-byte sectors it touches, where its bytes would fit into fewer; a shared
// request costs passes: in each of them every one of 32 banks serves one 4-byte word (16-byte
// accesses: 8 lanes at a time).
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

namespace standin {

struct Accesses {
    struct Request {
        unsigned size = 0;
        bool shared = false;
        std::vector<uintptr_t> addresses;
    };
    struct Totals {
        uint64_t global_requests, sectors, least_sectors, shared_requests, passes, least_passes;
    } totals{};
    std::map<std::pair<uintptr_t, unsigned>, Request> requests[32];  // by warp
    std::unordered_map<uintptr_t, unsigned> passed[1024];            // by thread: times at a place

    void add(unsigned thread, uintptr_t address, unsigned size, bool shared, uintptr_t place) {
        Request& r = requests[thread / 32][{place, passed[thread][place]++}];
        r.size = size;
        r.shared = shared;
        r.addresses.push_back(address);
    }

    /// A block has ended: what its requests cost.
    void finish_block() {
        for (auto& warp : requests) {
            for (auto& [_, r] : warp) r.shared ? count_shared(r) : count_global(r);
            warp.clear();
        }
        for (auto& thread : passed) thread.clear();
    }

    void count_global(const Request& r) {
        std::set<uintptr_t> sectors, words;
        for (uintptr_t a : r.addresses) {
            sectors.insert(a / 32);
            for (unsigned b = 0; b < r.size; b++) words.insert(a + b);
        }
        totals.global_requests++;
        totals.sectors += sectors.size();
        totals.least_sectors += (words.size() + 31) / 32;
    }

    void count_shared(const Request& r) {
        totals.shared_requests++;
        size_t together = r.size == 16 ? 8 : 32;
        for (size_t first = 0; first < r.addresses.size(); first += together) {
            std::set<uintptr_t> banks[32];
            for (size_t i = first; i < r.addresses.size() && i < first + together; i++) {
                for (unsigned b = 0; b < r.size; b += 4) {
                    uintptr_t word = r.addresses[i] / 4 + b / 4;
                    banks[word % 32].insert(word);
                }
            }
            size_t most = 1;
            for (auto& bank : banks) most = bank.size() > most ? bank.size() : most;
            totals.passes += most;
            totals.least_passes++;
        }
    }
};

}  // namespace standin
