// A convolution's gradient to the biases beside that to the weights (weights.cuh): the sums of the
// columns of `gradient`, in blocks of their own, each over the pixels of its split and the columns
// of its tile. BIASES of them, one for each kernel, at every place of a local layer; 0: none, and
// no such blocks.
//
// The blocks stand behind all others in the grid, so that those are dealt out to multiprocessors as
// evenly as without them: one for each repetition (Tiling::grid_with_biases in
// src/gpu/product.rs), in more layers along z, or where places are repeated behind the lines.
#pragma once
#include "weights.cuh"
#ifndef BIASES
#define BIASES 0
#endif

constexpr int REPETITIONS = (LOCAL ? PLACES : SPLITS) * GROUPS;

// Of which repetition this block sums up columns; below 0: it is one of the product.
__device__ __forceinline__ int summed_repetition() {
    constexpr int BLOCKS_OF_LINES = (Input::K + LINES - 1) / LINES;
    if (!BIASES) return -1;
#ifdef LINE_BLOCKS
    return block_x() - BLOCKS_OF_LINES * REPETITIONS;
#else
    if (LOCAL) return block_x() == BLOCKS_OF_LINES ? (int)blockIdx.z : -1;
    int beyond = (int)blockIdx.z - REPETITIONS;
    return beyond < 0 ? beyond : beyond * BLOCKS_OF_LINES + block_x();
#endif
}

// Calls finish(index, sum) for the biases of a repetition and this block's columns, `index` among
// all of them. A thread adds up every ROWS-th pixel, and one the ROWS sums of a column, in order.
template <class Finish>
__device__ __forceinline__ void bias_sums(const real* __restrict__ gradient, int repetition,
                                          void* shared, Finish finish) {
    if (repetition >= REPETITIONS) return;
    constexpr int EACH = WIDE_OUT ? PACK : 1, ACROSS = COLUMNS / EACH;
    constexpr int ROWS = THREADS / ACROSS > 0 ? THREADS / ACROSS : 1;
    static_assert(THREADS >= ACROSS, "a thread for each pack of columns");
    int group = repetition % GROUPS, part = repetition / GROUPS;
    int place = LOCAL ? part : 0, split = LOCAL ? 0 : part;
    int first = blockIdx.y * COLUMNS, row = threadIdx.x / ACROSS;
    int n = threadIdx.x % ACROSS * EACH;
    int begin = split * SPLIT_K, end = min(begin + SPLIT_K, PIXELS);
    const real* column = gradient + place * OUT_C + group * GROUP_OUT + first + n;
    float sum[EACH];
#pragma unroll
    for (int q = 0; q < EACH; q++) sum[q] = 0.f;
    if (row < ROWS && first + n < GROUP_OUT) {
#pragma unroll 8
        for (int k = begin + row; k < end; k += ROWS) {
            float values[EACH];
            load_pack(column + (size_t)k * (LOCAL ? PLACES * OUT_C : OUT_C), values);
#pragma unroll
            for (int q = 0; q < EACH; q++) sum[q] = __fadd_rn(sum[q], values[q]);
        }
    }
    float* sums = static_cast<float*>(shared);  // [ROWS][COLUMNS]
    if (row < ROWS) {
#pragma unroll
        for (int q = 0; q < EACH; q++) sums[row * COLUMNS + n + q] = sum[q];
    }
    __syncthreads();
    for (int c = threadIdx.x; c < COLUMNS && first + c < GROUP_OUT; c += THREADS) {
        float whole = sums[c];
        for (int r = 1; r < ROWS; r++) whole = __fadd_rn(whole, sums[r * COLUMNS + c]);
        finish((split + place) * OUT_C + group * GROUP_OUT + first + c, whole);
    }
}
