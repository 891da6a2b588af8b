// Convolution forward: output = input * weights + bias, ReLU if asked for.
//
// As a product: lines are the output's pixels (image, y, x), columns the kernels of a group, k the
// elements of a window. A fully connected layer is a 1 x 1 map with the inputs as channels. A
// locally connected layer (LOCAL = 1) is one product a place, with the images as lines.
//
//   x        [IMAGES][IN_H][IN_W][IN_C], real
//   weights  real, [KERNEL_H][KERNEL_W][IN_C / GROUPS][OUT_C], LOCAL: [OUT_H][OUT_W] in
//            front
//   bias     [OUT_C], LOCAL: [OUT_H][OUT_W] in front
//   y        [IMAGES][OUT_H][OUT_W][OUT_C], real, or float with OUT_FLOAT; with SPLITS > 1, SPLITS
//            such parts, float, each the sum over its share of k without bias and ReLU, for
//            reduce_splits to add up
//
// Grid: x lines / LINES, y (OUT_C / GROUPS) / COLUMNS, z (LOCAL ? places : SPLITS) * GROUPS;
// more than 65,535 of those stand in x, behind the lines (product.cuh).
#include "epilogue.cuh"
#include "product.cuh"
#include "patches.cuh"

constexpr int PIXELS = LOCAL ? IMAGES : IMAGES * PLACES;

struct Left {
    static constexpr bool ALONG_K = true, WIDE = Input::WIDE;
    using Line = Input::Place;
    struct Base {
        int k;
        Input::Element element;
    };
    const real* data;
    int first_channel, place;

    __device__ __forceinline__ Line line(int m) const {
        int image = LOCAL ? m : m / PLACES, at = LOCAL ? place : m % PLACES;
        return Input::place(image, at / OUT_W, at % OUT_W, m < PIXELS);
    }
    __device__ __forceinline__ Base base(int k) const { return {k, Input::element(k)}; }
    __device__ __forceinline__ Found find(Line line, Base base, int d) const {
        return Input::find(line, Input::element(base.element, base.k, d), first_channel);
    }
};

struct Right {
    static constexpr bool ALONG_K = false, WIDE = WIDE_OUT;
    using Line = int;  // the kernel within the group
    using Base = int;
    const real* data;  // the weights of the group, and of the place

    __device__ __forceinline__ Line line(int n) const { return n; }
    __device__ __forceinline__ Base base(int k) const { return k; }
    __device__ __forceinline__ Found find(Line n, Base base, int d) const {
        int k = base + d, run = k / Input::STEP, rest = k % Input::STEP;
        bool exists = (GROUP_OUT % COLUMNS == 0 || n < GROUP_OUT) &&
                      (Input::K % DEPTH == 0 || k < Input::K) && rest < Input::RUN;
        int row = Input::STEP == Input::RUN ? k : run * Input::RUN + rest;
        return {row * OUT_C + n, exists};
    }
};

// Bias and ReLU of TOGETHER columns; a part of a sum gets them when all of it is there.
struct Finish {
    float bias[4];

    __device__ __forceinline__ Finish(const float* biases, int n) {
#pragma unroll
        for (int q = 0; q < 4; q++) bias[q] = 0.f;
        if (SPLITS == 1 && WIDE_OUT && TOGETHER == 4) {
            float4 wide = load4(biases + n);
            bias[0] = wide.x, bias[1] = wide.y, bias[2] = wide.z, bias[3] = wide.w;
        } else if (SPLITS == 1) {
#pragma unroll
            for (int q = 0; q < TOGETHER; q++) bias[q] = n + q < GROUP_OUT ? biases[n + q] : 0.f;
        }
    }
    __device__ __forceinline__ float operator()(float sum, int q, size_t) const {
        return SPLITS > 1 ? sum : with_bias(sum, bias[q]);
    }
};

#ifndef OUT_FLOAT
#define OUT_FLOAT 0
#endif
#if SPLITS > 1 || OUT_FLOAT
using Output = float;
#else
using Output = real;
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_forward(EACH(const real* __restrict__, x), EACH(const real* __restrict__, weights),
             EACH(const float* __restrict__, bias), EACH(Output* __restrict__, y)) {
    OWN(x);
    OWN(weights);
    SHARED_MEMORY(shared);
    int group = repetition() % GROUPS, part = repetition() / GROUPS;
    int place = LOCAL ? part : 0, split = LOCAL ? 0 : part;
    int first_line = block_of_lines() * LINES, first_column = blockIdx.y * COLUMNS;
    Left left{x, group * GROUP_IN, place};
    Right right{weights + place * WEIGHT_ROWS * OUT_C + group * GROUP_OUT};
    Sums sums;
    int begin = split * SPLIT_K;
    product(left, first_line, right, first_column, begin, min(begin + SPLIT_K, Input::K), shared,
            sums);

    OWN(bias);
    OWN(y);
    int first = place * OUT_C + group * GROUP_OUT;
    bias += first;
    Lines<PIXELS, LOCAL ? PLACES * OUT_C : OUT_C> lines{(size_t)split * IMAGES * PLACES * OUT_C +
                                                        first};
    write_sums<GROUP_OUT, WIDE_OUT>(sums, first_line, first_column, y, lines,
                                    [=](int n) { return Finish(bias, n); });
}
