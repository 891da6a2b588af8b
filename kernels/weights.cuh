// A convolution's gradient to the weights as a product (product.cuh): the sum over all output
// pixels of window x gradient. Lines are the elements of a window, columns the kernels of a group,
// k the output's pixels of the whole batch. These are many (conv1: 387,200), so they are shared out
// over SPLITS blocks. With LOCAL, one product a place, k = images.
//
//   x         [IMAGES][IN_H][IN_W][IN_C]
//   gradient  [IMAGES][OUT_H][OUT_W][OUT_C], with respect to the output
//
// Grid: x Input::K / LINES, y (OUT_C / GROUPS) / COLUMNS, z (LOCAL ? places : SPLITS) * GROUPS;
// more than 65,535 of those stand in x, behind the lines (product.cuh).
#pragma once
#include "product.cuh"
#include "patches.cuh"

constexpr int PIXELS = LOCAL ? IMAGES : IMAGES * PLACES;

struct Left {
    static constexpr bool ALONG_K = false, WIDE = Input::WIDE;
    using Line = Input::Element;
    using Base = int;
    const real* data;
    int first_channel, place;

    __device__ __forceinline__ Line line(int m) const {
        Line e = Input::element(m);
        if (!e.exists) e.row = Input::CORNER ? 1 << 28 : -(1 << 28);  // in no map
        e.exists = true;
        return e;
    }
    __device__ __forceinline__ Base base(int k) const { return k; }
    __device__ __forceinline__ Found find(Line line, Base base, int d) const {
        int k = base + d;
        int image = LOCAL ? k : k / PLACES, at = LOCAL ? place : k % PLACES;
        Found f = Input::find(Input::place(image, at / OUT_W, at % OUT_W, true), line,
                              first_channel);
        return {f.at, f.exists && (PIXELS % DEPTH == 0 || k < PIXELS)};
    }
};

struct Right {
    static constexpr bool ALONG_K = false, WIDE = WIDE_OUT;
    using Line = int;  // the kernel within the group
    using Base = int;
    const real* data;  // the gradient of the group's first kernel, and of the place

    __device__ __forceinline__ Line line(int n) const { return n; }
    __device__ __forceinline__ Base base(int k) const { return k; }
    __device__ __forceinline__ Found find(Line n, Base base, int d) const {
        int k = base + d;
        return {k * (LOCAL ? PLACES * OUT_C : OUT_C) + n,
                (GROUP_OUT % COLUMNS == 0 || n < GROUP_OUT) &&
                    (PIXELS % DEPTH == 0 || k < PIXELS)};
    }
};

// The result's lines: the elements of a window without those that pad its runs or its pixels.
struct Weights {
    size_t first;
    // A line's place among elements that are not padded, and its channel.
    static __device__ __forceinline__ int element(int m) {
        return m / Input::STEP * Input::RUN + m % Input::STEP;
    }
    __device__ __forceinline__ bool exists(int m) const {
        return m < Input::K && m % Input::STEP < Input::RUN && element(m) % GROUP_IN < REAL_C;
    }
    __device__ __forceinline__ size_t at(int m) const {
        int tap = element(m) / GROUP_IN, channel = element(m) % GROUP_IN;
        return first + (size_t)(tap * REAL_C + channel) * OUT_C;
    }
};

// The sums of this block.
__device__ __forceinline__ Weights sum(const real* x, const real* gradient, void* shared,
                                       Sums& sums) {
    int group = repetition() % GROUPS, part = repetition() / GROUPS;
    int place = LOCAL ? part : 0, split = LOCAL ? 0 : part;
    int first_line = block_of_lines() * LINES, first_column = blockIdx.y * COLUMNS;
    Left left{x, group * GROUP_IN, place};
    Right right{gradient + place * OUT_C + group * GROUP_OUT};
    int begin = split * SPLIT_K;
    product(left, first_line, right, first_column, begin, min(begin + SPLIT_K, PIXELS),
            static_cast<Shared*>(shared), sums);
    constexpr int WEIGHTS = KERNEL_H * KERNEL_W * REAL_C * OUT_C;
    return {(size_t)(split + place) * WEIGHTS + group * GROUP_OUT};
}
