// A convolution's gradient to the biases beside that to the weights (weights.cuh): the sums of the
// columns of `gradient`, in blocks of their own behind those of the lines, each over the pixels of
// its split and the columns of its tile. BIASES of them, one for each kernel, at every place of a
// local layer; 0: none, and no such blocks.
#pragma once
#include "weights.cuh"
#ifndef BIASES
#define BIASES 0
#endif

// Whether this block sums up columns.
__device__ __forceinline__ bool sums_biases() {
    return BIASES && blockIdx.x == (Input::K + LINES - 1) / LINES;
}

// Calls finish(index, sum) for the biases of this block, `index` among all of them. A thread adds
// up every ROWS-th pixel, and one the ROWS sums of a column, in order.
template <class Finish>
__device__ __forceinline__ void bias_sums(const real* __restrict__ gradient, void* shared,
                                          Finish finish) {
    constexpr int EACH = WIDE_OUT ? PACK : 1, ACROSS = COLUMNS / EACH;
    constexpr int ROWS = THREADS / ACROSS > 0 ? THREADS / ACROSS : 1;
    static_assert(THREADS >= ACROSS, "a thread for each pack of columns");
    int group = blockIdx.z % GROUPS, part = blockIdx.z / GROUPS;
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
