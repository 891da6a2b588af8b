// Dropout (paper section 4.2): a neuron's output is kept or set to 0, by a number that is a
// function of (seed, layer, step, image, neuron) alone; src/random.rs computes the same on the CPU.
//
//   x, y [IMAGES][PIXELS][CHANNELS], real: a tower's part of a layer with JOINED_C channels,
//     which begins at `channel`
//
// Neuron j = pixel * JOINED_C + channel + c of an image is kept if word j % 4 of
// Philox((j / 4, image, step, PURPOSE), seed) is at least `threshold` = rate * 2^32, and then
// multiplied by `factor`: 1 where evaluation scales. The same kernel takes the gradient back.
// `scale` is the forward pass in evaluation: all are kept, times `factor`, the share that training
// keeps, or 1 where training scales. x and y may be the same memory. Grid: elements / 256.
//
// Above a ReLU in the same memory, `dropout_relu_backward` takes the gradient through both: what is
// there is above 0 where the ReLU's output was and it was kept. Grid: elements / PER / 256.
#include "real.cuh"
constexpr int COUNT = IMAGES * PIXELS * CHANNELS, PER = pack_of(COUNT);

__device__ __forceinline__ unsigned philox(unsigned word, unsigned c0, unsigned c1, unsigned c2,
                                           unsigned c3, unsigned k0, unsigned k1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0, c1 = low1;
        c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

extern "C" __global__ void __launch_bounds__(256)
dropout(EACH(const real*, x), EACH(size_t, channel), unsigned threshold, unsigned seed_low,
        unsigned seed_high, unsigned step, unsigned first_image, float factor, EACH(real*, y)) {
    OWN(x);
    OWN(channel);
    OWN(y);
    int i = block_x() * 256 + threadIdx.x;
    if (i >= COUNT) return;
    unsigned neuron = i / CHANNELS % PIXELS * JOINED_C + channel + i % CHANNELS;
    unsigned image = i / CHANNELS / PIXELS;
    unsigned random = philox(neuron % 4, neuron / 4, first_image + image, step, PURPOSE, seed_low,
                             seed_high);
    y[i] = random >= threshold ? __fmul_rn(x[i], factor) : 0.f;
}

extern "C" __global__ void __launch_bounds__(256)
scale(EACH(const real*, x), float factor, EACH(real*, y)) {
    OWN(x);
    OWN(y);
    int i = block_x() * 256 + threadIdx.x;
    if (i < COUNT) y[i] = __fmul_rn(x[i], factor);
}

extern "C" __global__ void __launch_bounds__(256)
dropout_relu_backward(EACH(const real*, y), EACH(const real*, gradient), float factor,
                      EACH(real*, out)) {
    OWN(y);
    OWN(gradient);
    OWN(out);
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    float values[PER], slopes[PER];
    load_pack(y + i, values);
    load_pack(gradient + i, slopes);
#pragma unroll
    for (int q = 0; q < PER; q++) {
        values[q] = values[q] > 0.f ? __fmul_rn(slopes[q], factor) : 0.f;
    }
    store_pack(out + i, values);
}
