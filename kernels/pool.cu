// Pooling over SIZE x SIZE windows every STRIDE pixels, clipped to the map (paper section 3.4).
//
//   x, out      [IMAGES][IN_H][IN_W][C], real
//   y, gradient [IMAGES][OUT_H][OUT_W][C], real
//   choice      like y: which pixel of the window (row * SIZE + column) was the maximum, 8 bits
//               where that is enough, else 16; none where no backward pass will come
//
// MASK: x is a ReLU's output, and the gradient is that to the ReLU's input. It is 0 where x is not
// above 0, which is known by the maximum, y.
//
// The gradient of a maximum goes to the first of equal ones in row-major order. The backward passes
// gather: an input pixel adds up the windows that hold it, in rising order, so nothing is added
// atomically. Grid: elements of what is written / PER / 256; a thread takes PER neighbouring
// channels.
#include "real.cuh"
#ifndef MASK
#define MASK 0
#endif
constexpr int OUT_COUNT = IMAGES * OUT_H * OUT_W * C;
constexpr int IN_COUNT = IMAGES * IN_H * IN_W * C;

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

constexpr int PER = pack_of(C);
#if SIZE <= 16
using Choice = unsigned char;
#else
using Choice = unsigned short;
#endif

// The choices of PER neighbouring channels, in whole words where they are several.
constexpr int BITS = 8 * sizeof(Choice), IN_WORD = 32 / BITS;
constexpr int WORDS = (PER + IN_WORD - 1) / IN_WORD;

__device__ __forceinline__ int choice_of(const unsigned (&words)[WORDS], int q) {
    return words[q / IN_WORD] >> q % IN_WORD * BITS & ((1u << BITS) - 1);
}

extern "C" __global__ void __launch_bounds__(256)
max_forward(const real* __restrict__ x, real* __restrict__ y, Choice* __restrict__ choice) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= OUT_COUNT) return;
    Window w(i / C / OUT_W % OUT_H, i / C % OUT_W);
    const real* map = x + i / C / OUT_W / OUT_H * IN_H * IN_W * C + i % C;
    float best[PER];
    int chosen[PER];
    load_pack(map + (w.y0 * IN_W + w.x0) * C, best);
#pragma unroll
    for (int q = 0; q < PER; q++) chosen[q] = 0;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) {
            float values[PER];
            load_pack(map + (v * IN_W + u) * C, values);
            int place = (v - w.y0) * SIZE + u - w.x0;
#pragma unroll
            for (int q = 0; q < PER; q++) {
                // Not a number wins and stays: a diverged run must show itself.
                bool wins = values[q] > best[q] || values[q] != values[q];
                best[q] = wins ? values[q] : best[q];
                chosen[q] = wins ? place : chosen[q];
            }
        }
    }
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

// Room for four blocks is asked for: without it the compiler for 9.0 spills to make room for six.
extern "C" __global__ void __launch_bounds__(256, 4)
max_backward(const real* __restrict__ gradient, const Choice* __restrict__ choice,
             const real* __restrict__ pooled, real* __restrict__ out) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= IN_COUNT) return;
    int x = i / C % IN_W, y = i / C / IN_W % IN_H;
    int image = i / C / IN_W / IN_H * OUT_H * OUT_W * C + i % C;
    float sum[PER];
#pragma unroll
    for (int q = 0; q < PER; q++) sum[q] = 0.f;
    windows(y, x, [&](int oy, int ox) {
        int j = image + (oy * OUT_W + ox) * C;
        int mine = (y - oy * STRIDE) * SIZE + x - ox * STRIDE;
        float share[PER], most[PER];
        load_pack(gradient + j, share);
        if (MASK) load_pack(pooled + j, most);
        unsigned words[WORDS];
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            words[w] = PER == 1 ? choice[j] : reinterpret_cast<const unsigned*>(choice + j)[w];
        }
#pragma unroll
        for (int q = 0; q < PER; q++) {
            bool goes_on = choice_of(words, q) == mine && (!MASK || most[q] > 0.f);
            sum[q] = goes_on ? __fadd_rn(sum[q], share[q]) : sum[q];
        }
    });
    store_pack(out + i, sum);
}

extern "C" __global__ void __launch_bounds__(256)
average_forward(const real* __restrict__ x, real* __restrict__ y) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= OUT_COUNT) return;
    Window w(i / C / OUT_W % OUT_H, i / C % OUT_W);
    const real* map = x + i / C / OUT_W / OUT_H * IN_H * IN_W * C + i % C;
    float sum = 0.f;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) sum = __fadd_rn(sum, map[(v * IN_W + u) * C]);
    }
    y[i] = __fdiv_rn(sum, float(w.pixels()));
}

extern "C" __global__ void __launch_bounds__(256)
average_backward(const real* __restrict__ gradient, real* __restrict__ out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= IN_COUNT) return;
    int image = i / C / IN_W / IN_H * OUT_H * OUT_W * C + i % C;
    float sum = 0.f;
    windows(i / C / IN_W % IN_H, i / C % IN_W, [&](int oy, int ox) {
        float share = __fdiv_rn(gradient[image + (oy * OUT_W + ox) * C],
                                float(Window(oy, ox).pixels()));
        sum = __fadd_rn(sum, share);
    });
    out[i] = sum;
}
