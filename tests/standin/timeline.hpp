// Time without execution (STANDIN_TIMELINE=file): every call that queues work, orders it or waits
// for it is written down as a line of JSON, in the order of the calls; kernels are neither compiled
// nor run, and of copies only small ones, which a program makes to see whether they arrive. A test
// gives each line a duration and finds out when what would run (timeline.rs).
#pragma once
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace standin {

struct Timeline {
    FILE* file = nullptr;

    Timeline() {
        if (const char* path = getenv("STANDIN_TIMELINE")) file = fopen(path, "w");
    }
    bool on() const { return file != nullptr; }

    /// Copies of so many bytes are made all the same.
    static constexpr size_t MADE = 4096;

    __attribute__((format(printf, 2, 3))) void line(const char* format, ...) {
        if (!file) return;
        va_list values;
        va_start(values, format);
        vfprintf(file, format, values);
        va_end(values);
        fputc('\n', file);
        fflush(file);
    }
};
inline Timeline timeline;

}  // namespace standin
