// What crosses between towers: joining their maps, and taking a tower's part back out.
//
// Maps are [pixel][channel]. `part` has C channels, `joined` JOINED_C; the part's stand from
// CHANNEL on. Grid: PIXELS * C / 256.

#define FOR_PART(i, j) \
    int i = blockIdx.x * 256 + threadIdx.x; \
    if (i >= PIXELS * C) return; \
    int j = i / C * JOINED_C + CHANNEL + i % C;

extern "C" __global__ void join(const float* __restrict__ part, float* __restrict__ joined) {
    FOR_PART(i, j)
    joined[j] = part[i];
}

extern "C" __global__ void take(const float* __restrict__ joined, float* __restrict__ part) {
    FOR_PART(i, j)
    part[i] = joined[j];
}

// part = part + the same part of joined: one more of the gradients that consumers send, in the
// order in which this is called.
extern "C" __global__ void take_add(const float* __restrict__ joined, float* __restrict__ part) {
    FOR_PART(i, j)
    part[i] = __fadd_rn(part[i], joined[j]);
}

// part = part + other
extern "C" __global__ void add(const float* __restrict__ other, float* __restrict__ part) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < PIXELS * C) part[i] = __fadd_rn(part[i], other[i]);
}
