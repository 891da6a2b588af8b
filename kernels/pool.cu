// Pooling over SIZE x SIZE windows every STRIDE pixels, clipped to the map (paper section 3.4).
//
//   x, out      [IMAGES][IN_H][IN_W][CHANNELS], real
//   y, gradient [IMAGES][OUT_H][OUT_W][CHANNELS], real
//   choice      like y: which pixel of the window was the maximum (pool.cuh), 8 bits where that is
//               enough, else 16; none where no backward pass will come
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
constexpr int PER = pack_of(CHANNELS);
#include "pool.cuh"

extern "C" __global__ void __launch_bounds__(256)
max_forward(EACH(const real* __restrict__, x), EACH(real* __restrict__, y),
            EACH(Choice* __restrict__, choice)) {
    OWN(x);
    OWN(y);
    OWN(choice);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= OUT_COUNT) return;
    Window w(i / CHANNELS / OUT_W % OUT_H, i / CHANNELS % OUT_W);
    const real* map = x + i / CHANNELS / OUT_W / OUT_H * IN_H * IN_W * CHANNELS + i % CHANNELS;
    Maximum most;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) {
            float values[PER];
            load_pack(map + (v * IN_W + u) * CHANNELS, values);
            most.take(values, (v - w.y0) * SIZE + u - w.x0);
        }
    }
    most.store(y, choice, i);
}

// Room for four blocks is asked for: without it the compiler for 9.0 spills to make room for six.
extern "C" __global__ void __launch_bounds__(256, 4)
max_backward(EACH(const real* __restrict__, gradient), EACH(const Choice* __restrict__, choice),
             EACH(const real* __restrict__, pooled), EACH(real* __restrict__, out)) {
    OWN(gradient);
    OWN(choice);
    OWN(pooled);
    OWN(out);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= IN_COUNT) return;
    int x = i / CHANNELS % IN_W, y = i / CHANNELS / IN_W % IN_H;
    int image = i / CHANNELS / IN_W / IN_H * OUT_H * OUT_W * CHANNELS + i % CHANNELS;
    float sum[PER];
#pragma unroll
    for (int q = 0; q < PER; q++) sum[q] = 0.f;
    windows(y, x, [&](int oy, int ox) {
        int j = image + (oy * OUT_W + ox) * CHANNELS;
        int mine = (y - oy * STRIDE) * SIZE + x - ox * STRIDE;
        float share[PER], most[PER];
        load_pack(gradient + j, share);
        if (MASK) load_pack(pooled + j, most);
        Choices chosen;
        chosen.load(choice + j);
#pragma unroll
        for (int q = 0; q < PER; q++) {
            bool goes_on = chosen.at(q) == mine && (!MASK || most[q] > 0.f);
            sum[q] = goes_on ? __fadd_rn(sum[q], share[q]) : sum[q];
        }
    });
    store_pack(out + i, sum);
}

extern "C" __global__ void __launch_bounds__(256)
average_forward(EACH(const real* __restrict__, x), EACH(real* __restrict__, y)) {
    OWN(x);
    OWN(y);
    int i = block_x() * 256 + threadIdx.x;
    if (i >= OUT_COUNT) return;
    Window w(i / CHANNELS / OUT_W % OUT_H, i / CHANNELS % OUT_W);
    const real* map = x + i / CHANNELS / OUT_W / OUT_H * IN_H * IN_W * CHANNELS + i % CHANNELS;
    float sum = 0.f;
    for (int v = w.y0; v < w.y1; v++) {
        for (int u = w.x0; u < w.x1; u++) sum = __fadd_rn(sum, map[(v * IN_W + u) * CHANNELS]);
    }
    y[i] = __fdiv_rn(sum, float(w.pixels()));
}

extern "C" __global__ void __launch_bounds__(256)
average_backward(EACH(const real* __restrict__, gradient), EACH(real* __restrict__, out)) {
    OWN(gradient);
    OWN(out);
    int i = block_x() * 256 + threadIdx.x;
    if (i >= IN_COUNT) return;
    int image = i / CHANNELS / IN_W / IN_H * OUT_H * OUT_W * CHANNELS + i % CHANNELS;
    float sum = 0.f;
    windows(i / CHANNELS / IN_W % IN_H, i / CHANNELS % IN_W, [&](int oy, int ox) {
        float share = __fdiv_rn(gradient[image + (oy * OUT_W + ox) * CHANNELS],
                                float(Window(oy, ox).pixels()));
        sum = __fadd_rn(sum, share);
    });
    out[i] = sum;
}
