// Local response normalisation (paper section 3.3): y = x / d^beta, d = OFFSET + ALPHA * sum of x^2
// over a neighbourhood of SIZE maps at the same pixel (WITHIN = 0, lrn.cuh), or of SIZE x SIZE
// pixels of the same map (WITHIN = 1). ALPHA is already divided if the config asks for that.
//
//   x, y, gradient (to y), out (to x)  [IMAGES][HEIGHT][WIDTH][CHANNELS], real
//   scale (d)  float, like x: with WITHIN alone, where a backward pass is to come
//
// Grid: elements / PER / 256.
#include "real.cuh"
constexpr int COUNT = IMAGES * HEIGHT * WIDTH * CHANNELS;
constexpr int HALF = SIZE / 2;
constexpr int PER = WITHIN ? 1 : pack_of(CHANNELS);
#include "lrn.cuh"

// Calls visit(index) for each neighbour of element i within its map, in rising order.
template <class Visit> __device__ __forceinline__ void neighbours(int i, Visit visit) {
    int x = i / CHANNELS % WIDTH, y = i / CHANNELS / WIDTH % HEIGHT;
    for (int v = max(y - HALF, 0); v <= min(y + HALF, HEIGHT - 1); v++) {
        for (int u = max(x - HALF, 0); u <= min(x + HALF, WIDTH - 1); u++) {
            visit(i + ((v - y) * WIDTH + u - x) * CHANNELS);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
lrn_forward(EACH(const real* __restrict__, x), EACH(float* __restrict__, scale),
            EACH(real* __restrict__, y)) {
    OWN(x);
    OWN(scale);
    OWN(y);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    if (WITHIN) {
        float sum = 0.f;
        neighbours(i, [&](int j) { sum = fmaf(x[j], x[j], sum); });
        float d = fmaf(float(ALPHA), sum, float(OFFSET));
        if (scale) scale[i] = d;
        y[i] = x[i] * Powers(d).power;
        return;
    }
    float made[PER];
    normalise(x + i, i % CHANNELS, made);
    store_pack(y + i, made);
}

// The output is not read: layers above may have changed it in place.
extern "C" __global__ void __launch_bounds__(256)
lrn_backward(EACH(const real* __restrict__, x), EACH(const float* __restrict__, scale),
             EACH(const real* __restrict__, gradient), EACH(real* __restrict__, out)) {
    OWN(x);
    OWN(scale);
    OWN(gradient);
    OWN(out);
    constexpr float FACTOR = -2.f * float(ALPHA) * float(BETA);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    if (WITHIN) {
        float sum = 0.f;
        neighbours(i, [&](int j) {
            sum = fmaf(gradient[j] * x[j], Powers(scale[j]).next, sum);
        });
        float direct = gradient[i] * Powers(scale[i]).power;
        float made = fmaf(FACTOR * x[i], sum, direct);
        out[i] = !MASK || float(x[i]) > 0.f ? made : 0.f;
        return;
    }
    Around<HALF> above(gradient + i, i % CHANNELS);
    float made[PER];
    normalise_backward(x + i, i % CHANNELS, above.at, made);
    store_pack(out + i, made);
}
