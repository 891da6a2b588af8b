// The windows of a pooling layer and what is kept of a maximum, for the kernels that pool. Who
// includes it says what PER is: a thread takes PER neighbouring of the CHANNELS.
//
// Maps [IMAGES][IN_H][IN_W][CHANNELS] become [IMAGES][OUT_H][OUT_W][CHANNELS] by windows of SIZE x
// SIZE every STRIDE pixels, clipped to the map.
#pragma once
#include "real.cuh"
constexpr int OUT_COUNT = IMAGES * OUT_H * OUT_W * CHANNELS;
constexpr int IN_COUNT = IMAGES * IN_H * IN_W * CHANNELS;

// The part of a window inside the map: rows y0 to y1 and columns x0 to x1, without the last.
struct Window {
    int y0, y1, x0, x1;
    __device__ __forceinline__ Window(int oy, int ox) {
        y0 = oy * STRIDE, y1 = min(y0 + SIZE, IN_H);
        x0 = ox * STRIDE, x1 = min(x0 + SIZE, IN_W);
    }
    __device__ __forceinline__ int pixels() const { return (y1 - y0) * (x1 - x0); }
};

// Calls visit(oy, ox) for each window that holds input pixel (y, x), in rising order.
template <class Visit> __device__ __forceinline__ void windows(int y, int x, Visit visit) {
    int oy0 = y < SIZE ? 0 : (y - SIZE) / STRIDE + 1, oy1 = min(y / STRIDE, OUT_H - 1);
    int ox0 = x < SIZE ? 0 : (x - SIZE) / STRIDE + 1, ox1 = min(x / STRIDE, OUT_W - 1);
    for (int oy = oy0; oy <= oy1; oy++) {
        for (int ox = ox0; ox <= ox1; ox++) visit(oy, ox);
    }
}

// Which pixel of a window (row * SIZE + column) was the maximum.
#if SIZE <= 16
using Choice = unsigned char;
#else
using Choice = unsigned short;
#endif

// The choices of PER neighbouring channels, in whole words where they are several.
constexpr int BITS = 8 * sizeof(Choice), IN_WORD = 32 / BITS;
constexpr int WORDS = (PER + IN_WORD - 1) / IN_WORD;

struct Choices {
    unsigned words[WORDS];

    __device__ __forceinline__ void load(const Choice* from) {
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            words[w] = PER == 1 ? *from : reinterpret_cast<const unsigned*>(from)[w];
        }
    }
    __device__ __forceinline__ int at(int q) const {
        return words[q / IN_WORD] >> q % IN_WORD * BITS & ((1u << BITS) - 1);
    }
};

// The largest of a window's values so far, for PER channels, and the first place where it stood.
struct Maximum {
    float best[PER];
    int chosen[PER];

    __device__ __forceinline__ Maximum() {
#pragma unroll
        for (int q = 0; q < PER; q++) best[q] = of_bits(0xff800000u), chosen[q] = 0;  // -infinity
    }

    __device__ __forceinline__ void take(const float (&values)[PER], int place) {
#pragma unroll
        for (int q = 0; q < PER; q++) {
            // Not a number wins and stays: a diverged run must show itself.
            bool wins = values[q] > best[q] || values[q] != values[q];
            best[q] = wins ? values[q] : best[q];
            chosen[q] = wins ? place : chosen[q];
        }
    }

    // To y and, if there is one, to `choice`.
    __device__ __forceinline__ void store(real* y, Choice* choice, int i) const {
        store_pack(y + i, best);
        if (!choice) return;
        if (PER == 1) {
            choice[i] = (Choice)chosen[0];
            return;
        }
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            unsigned word = 0;
#pragma unroll
            for (int q = 0; q < IN_WORD; q++) word |= chosen[(w * IN_WORD + q) % PER] << q * BITS;
            reinterpret_cast<unsigned*>(choice + i)[w] = word;
        }
    }
};
