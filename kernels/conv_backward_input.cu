// Convolution, gradient to the input: the output's gradient, spread out by the stride, convolved
// with the kernels turned by 180 degrees.
//
// As a product: lines are the input's pixels (image, y, x), columns the input channels of a group,
// k = (tap, kernel of the group). With LOCAL, one product a place of the input, images as lines.
//
//   gradient  [IMAGES][OUT_H][OUT_W][OUT_C], with respect to the output
//   weights   as in conv_forward.cu
//   x         [IMAGES][IN_H][IN_W][IN_C], the input: where MASK says that it is a ReLU's output,
//             the gradient is that to the ReLU's input; read only then
//   out       like x, with respect to the input; with SPLITS > 1, that many parts, float and
//             without MASK
//
// Grid: x lines / LINES, y (IN_C / GROUPS) / COLUMNS, z (LOCAL ? IN_H * IN_W : SPLITS) * GROUPS;
// more than 65,535 of those stand in x, behind the lines (product.cuh).
#include "product.cuh"
#include "patches.cuh"

constexpr int IN_PLACES = IN_H * IN_W;
constexpr int PIXELS = LOCAL ? IMAGES : IMAGES * IN_PLACES;

struct Left {
    static constexpr bool ALONG_K = true, WIDE = Gradient::WIDE;
    using Line = Gradient::Place;
    struct Base {
        int k;
        Gradient::Element element;
    };
    const real* data;
    int first_kernel, place;

    __device__ __forceinline__ Line line(int m) const {
        int image = LOCAL ? m : m / IN_PLACES, at = LOCAL ? place : m % IN_PLACES;
        return Gradient::place(image, at / IN_W, at % IN_W, m < PIXELS);
    }
    __device__ __forceinline__ Base base(int k) const { return {k, Gradient::element(k)}; }
    __device__ __forceinline__ Found find(Line line, Base base, int d) const {
        return Gradient::find(line, Gradient::element(base.element, base.k, d), first_kernel);
    }
};

struct Right {
    static constexpr bool ALONG_K = true, WIDE = WIDE_OUT;
    using Line = int;  // the input channel within the group
    using Base = int;
    const real* data;
    int first_kernel, place;

    __device__ __forceinline__ Line line(int n) const { return n; }
    __device__ __forceinline__ Base base(int k) const { return k; }

    // The weight of channel n for the tap and the kernel that k stands for.
    __device__ __forceinline__ Found find(Line n, Base base, int d) const {
        // In both orders of k there are CHANNELS values to a tap; if tiles never leave a tap, which
        // one it is is the same for the whole block.
        constexpr int CHANNELS = Gradient::ROWS ? OUT_C : GROUP_OUT;
        constexpr bool PADDED = Gradient::STEP != Gradient::RUN;
        int k = base + d;
        int run = k / Gradient::STEP, rest = k % Gradient::STEP;
        int flat = PADDED ? run * Gradient::RUN + rest : k;
        int turned = CHANNELS % DEPTH == 0 ? base / CHANNELS : flat / CHANNELS;
        int kernel = CHANNELS % DEPTH == 0 ? base % CHANNELS + d : flat % CHANNELS;
        bool exists = (GROUP_IN % COLUMNS == 0 || n < GROUP_IN) &&
                      (Gradient::K % DEPTH == 0 || k < Gradient::K) && rest < Gradient::RUN;
        int tap = KERNEL_H * KERNEL_W - 1 - turned;
        int at = (tap * GROUP_IN + n) * OUT_C + first_kernel + kernel;
        if (!LOCAL) return {at, exists};
        int y = place / IN_W - Gradient::TOP + turned / KERNEL_W;
        int x = place % IN_W - Gradient::LEFT + turned % KERNEL_W;
        bool inside = y >= 0 && x >= 0 && y % STRIDE == 0 && x % STRIDE == 0 &&
                      y / STRIDE < OUT_H && x / STRIDE < OUT_W;
        return {at + (y / STRIDE * OUT_W + x / STRIDE) * WEIGHT_ROWS * OUT_C, exists && inside};
    }
};

#ifndef MASK
#define MASK 0
#endif
#if SPLITS > 1
using Output = float;
#else
using Output = real;
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
conv_backward_input(EACH(const real* __restrict__, gradient),
                    EACH(const real* __restrict__, weights), EACH(const real* __restrict__, x),
                    EACH(Output* __restrict__, out)) {
    OWN(gradient);
    OWN(weights);
    SHARED_MEMORY(shared);
    int group = repetition() % GROUPS, part = repetition() / GROUPS;
    int place = LOCAL ? part : 0, split = LOCAL ? 0 : part;
    int first_line = block_of_lines() * LINES, first_column = blockIdx.y * COLUMNS;
    Left left{gradient, group * GROUP_OUT, place};
    Right right{weights, group * GROUP_OUT, place};
    Sums sums;
    int begin = split * SPLIT_K;
    product(left, first_line, right, first_column, begin, min(begin + SPLIT_K, Gradient::K), shared,
            sums);

    OWN(x);
    OWN(out);
    Lines<PIXELS, LOCAL ? IN_PLACES * IN_C : IN_C> lines{
        (size_t)split * IMAGES * IN_PLACES * IN_C + place * IN_C + group * GROUP_IN};
    write_sums<GROUP_IN, WIDE_IN>(sums, first_line, first_column, out, lines,
                                  [=](int) { return Masked<MASK && SPLITS == 1>{x}; });
}
