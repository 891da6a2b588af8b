// What crosses between towers: joining their maps, and taking a tower's part back out.
//
// Maps are [pixel][channel], real. `part` has CHANNELS channels, `joined` JOINED_C; the part's
// stand from CHANNEL on. Grid: PIXELS * CHANNELS / PER / 256; a thread takes PER neighbouring
// channels.
//
// Where both towers are on one GPU, `join_both` puts both side by side, `first` of CHANNELS
// channels and `second` of the others, and `take_both` takes both out of the gradients that READERS
// send, one or two, added up. Grid: PIXELS * JOINED_C / PER / 256.
#include "real.cuh"
#ifndef READERS
#define READERS 1
#endif
constexpr int PER = CHANNELS % PACK == 0 && JOINED_C % PACK == 0 && CHANNEL % PACK == 0 ? PACK : 1;

#define FOR_PART(i, j) \
    int i = (blockIdx.x * 256 + threadIdx.x) * PER; \
    if (i >= PIXELS * CHANNELS) return; \
    int j = i / CHANNELS * JOINED_C + CHANNEL + i % CHANNELS;

__device__ __forceinline__ void copy(const real* from, real* to) {
    float values[PER];
    load_pack(from, values);
    store_pack(to, values);
}

__device__ __forceinline__ void add_to(const real* other, real* sum) {
    float values[PER], more[PER];
    load_pack(sum, values);
    load_pack(other, more);
#pragma unroll
    for (int q = 0; q < PER; q++) values[q] = __fadd_rn(values[q], more[q]);
    store_pack(sum, values);
}

extern "C" __global__ void join(const real* __restrict__ part, real* __restrict__ joined) {
    FOR_PART(i, j)
    copy(part + i, joined + j);
}

extern "C" __global__ void take(const real* __restrict__ joined, real* __restrict__ part) {
    FOR_PART(i, j)
    copy(joined + j, part + i);
}

// part = part + the same part of joined: one more of the gradients that consumers send, in the
// order in which this is called.
extern "C" __global__ void take_add(const real* __restrict__ joined, real* __restrict__ part) {
    FOR_PART(i, j)
    add_to(joined + j, part + i);
}

// part = part + other
extern "C" __global__ void add(const real* __restrict__ other, real* __restrict__ part) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i < PIXELS * CHANNELS) add_to(other + i, part + i);
}

extern "C" __global__ void join_both(const real* __restrict__ first,
                                     const real* __restrict__ second,
                                     real* __restrict__ joined) {
    constexpr int OTHERS = JOINED_C - CHANNELS;
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= PIXELS * JOINED_C) return;
    int pixel = i / JOINED_C, c = i % JOINED_C;
    copy(c < CHANNELS ? first + pixel * CHANNELS + c : second + pixel * OTHERS + c - CHANNELS,
         joined + i);
}

extern "C" __global__ void take_both(const real* __restrict__ one, const real* __restrict__ other,
                                     real* __restrict__ first, real* __restrict__ second) {
    constexpr int OTHERS = JOINED_C - CHANNELS;
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= PIXELS * JOINED_C) return;
    float values[PER], more[PER];
    load_pack(one + i, values);
    if (READERS == 2) {
        load_pack(other + i, more);
#pragma unroll
        for (int q = 0; q < PER; q++) values[q] = __fadd_rn(values[q], more[q]);
    }
    int pixel = i / JOINED_C, c = i % JOINED_C;
    store_pack(c < CHANNELS ? first + pixel * CHANNELS + c : second + pixel * OTHERS + c - CHANNELS,
               values);
}
