// Response normalisation over maps (lrn.cuh) and the maximum of pooling windows (pool.cuh) in one
// pass: the normalised map is never written, nor is its gradient. A normalised value is computed
// anew for every window that holds it, out of the cache, so x is read from memory once.
//
//   x, out (gradient to x)    [IMAGES][IN_H][IN_W][CHANNELS], real
//   y, gradient (to y)        [IMAGES][OUT_H][OUT_W][CHANNELS], real
//   choice                    like y, 8 bits; none where no backward pass will come
//
// NEIGHBOURS maps are in a sum; MASK as in lrn.cuh. The bits are those of lrn.cu and pool.cu one
// after the other: what would be stored between them is rounded as if it were.
//
// Grid: elements of what is written / PER / 256; a thread takes PER neighbouring channels.
#include "real.cuh"
constexpr int HALF = NEIGHBOURS / 2;
constexpr int PER = pack_of(CHANNELS);
#include "lrn.cuh"
#include "pool.cuh"
static_assert(sizeof(Choice) == 1, "windows of at most 16 x 16");

// No window reaches beyond the map.
constexpr bool WHOLE = (OUT_H - 1) * STRIDE + SIZE <= IN_H && (OUT_W - 1) * STRIDE + SIZE <= IN_W;
// Windows of so many pixels a row are read at once.
constexpr int AT_ONCE = SIZE <= 3 ? SIZE : 1;

// The values as they would be read back after they have been stored.
template <int N> __device__ __forceinline__ void as_stored(float (&v)[N]) {
    if (!BF16) return;
#pragma unroll
    for (int q = 0; q < N; q += 2) {
        unsigned both = to_bf16x2(v[q], q + 1 < N ? v[(q + 1) % N] : 0.f);
        v[q] = of_bits(both << 16);
        if (q + 1 < N) v[(q + 1) % N] = of_bits(both & 0xffff0000u);
    }
}

// Room for so many blocks is asked for: without it the compilers for 10.0 and 12.0 spill to make
// room for more, and NVRTC 13.5 does for four there.
#if __CUDA_ARCH__ >= 1000
constexpr int RESIDENT = 3;
#else
constexpr int RESIDENT = 4;
#endif

extern "C" __global__ void __launch_bounds__(256, RESIDENT)
lrn_pool_forward(EACH(const real* __restrict__, x), EACH(real* __restrict__, y),
                 EACH(Choice* __restrict__, choice)) {
    OWN(x);
    OWN(y);
    OWN(choice);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= OUT_COUNT) return;
    int c = i % CHANNELS;
    Window w(i / CHANNELS / OUT_W % OUT_H, i / CHANNELS % OUT_W);
    const real* map = x + i / CHANNELS / OUT_W / OUT_H * IN_H * IN_W * CHANNELS + c;
    Maximum most;
    for (int v = 0; v < SIZE; v++) {
        if (!WHOLE && w.y0 + v >= w.y1) break;
#pragma unroll AT_ONCE
        for (int u = 0; u < SIZE; u++) {
            if (!WHOLE && w.x0 + u >= w.x1) break;
            float values[PER];
            normalise(map + ((w.y0 + v) * IN_W + w.x0 + u) * CHANNELS, c, values);
            as_stored(values);
            most.take(values, v * SIZE + u);
        }
    }
    most.store(y, choice, i);
}

// Adds the share of the window whose channel c lies at index j to the gradients of the channels
// around c that chose its pixel number `mine`.
__device__ __forceinline__ void gather(const real* gradient, const Choice* choice, int j, int c,
                                       int mine, float (&sum)[PER + 2 * HALF]) {
    Around<HALF> shares(gradient + j, c);
    if (PER == PACK && HALF <= PACK) {
        Choices before, own, after;
        own.load(choice + j);
        if (c > 0) before.load(choice + j - PER);
        if (c + PER < CHANNELS) after.load(choice + j + PER);
        auto add = [&](int q, bool exists, const Choices& of, int at) {
            bool goes_on = exists && of.at(at) == mine;
            sum[q] = goes_on ? __fadd_rn(sum[q], shares.at[q]) : sum[q];
        };
#pragma unroll
        for (int q = 0; q < PER; q++) add(HALF + q, true, own, q);
#pragma unroll
        for (int q = 0; q < HALF; q++) {
            add(q, c > 0, before, (PER - HALF + q) % PER);
            add(HALF + PER + q, c + PER < CHANNELS, after, q % PER);
        }
        return;
    }
#pragma unroll
    for (int q = 0; q < PER + 2 * HALF; q++) {
        int channel = c + q - HALF;
        bool goes_on = channel >= 0 && channel < CHANNELS && choice[j + q - HALF] == mine;
        sum[q] = goes_on ? __fadd_rn(sum[q], shares.at[q]) : sum[q];
    }
}

extern "C" __global__ void __launch_bounds__(256, RESIDENT)
lrn_pool_backward(EACH(const real* __restrict__, x), EACH(const real* __restrict__, gradient),
                  EACH(const Choice* __restrict__, choice), EACH(real* __restrict__, out)) {
    OWN(x);
    OWN(gradient);
    OWN(choice);
    OWN(out);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= IN_COUNT) return;
    int c = i % CHANNELS, column = i / CHANNELS % IN_W, row = i / CHANNELS / IN_W % IN_H;
    int image = i / CHANNELS / IN_W / IN_H * OUT_H * OUT_W * CHANNELS + c;
    float above[PER + 2 * HALF];
#pragma unroll
    for (int q = 0; q < PER + 2 * HALF; q++) above[q] = 0.f;
    windows(row, column, [&](int oy, int ox) {
        int mine = (row - oy * STRIDE) * SIZE + column - ox * STRIDE;
        gather(gradient, choice, image + (oy * OUT_W + ox) * CHANNELS, c, mine, above);
    });
    as_stored(above);
    float made[PER];
    normalise_backward(x + i, c, above, made);
    store_pack(out + i, made);
}
