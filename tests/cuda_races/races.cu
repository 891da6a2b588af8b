// to[i] = from[i] + 1 for first <= i < end.
extern "C" __global__ void add_one(const float* from, float* to, int first, int end) {
    int i = first + threadIdx.x;
    if (i < end) to[i] = from[i] + 1.f;
}

// Reverses 64 floats through shared memory.
extern "C" __global__ void no_barrier(float* out, int fault) {
    __shared__ float values[64];
    values[threadIdx.x] = out[threadIdx.x];
    if (!fault) __syncthreads();
    out[threadIdx.x] = values[63 - threadIdx.x];
}

// Twice through the same shared memory. In which order the threads run here, each value has been
// read when it is overwritten.
extern "C" __global__ void no_second_barrier(float* out, int fault) {
    __shared__ float values[64];
    float sum = 0.f;
    for (int round = 0; round < 2; round++) {
        values[threadIdx.x] = out[threadIdx.x] + round;
        __syncthreads();
        sum += values[threadIdx.x | 32];
        if (!fault) __syncthreads();
    }
    out[threadIdx.x] = sum;
}

// What a warp has in step is enough for values of the own warp alone.
extern "C" __global__ void warp_for_block(float* out, int fault) {
    __shared__ float values[64];
    values[threadIdx.x] = out[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = values[fault ? 63 - threadIdx.x : threadIdx.x ^ 31];
}

// Through global memory, within a block.
extern "C" __global__ void no_barrier_global(float* out, int fault) {
    out[threadIdx.x] = threadIdx.x;
    if (!fault) __syncthreads();
    out[64 + threadIdx.x] = out[63 - threadIdx.x];
}

// All blocks write the same value to the same place.
extern "C" __global__ void blocks_write(float* out, int fault) {
    if (threadIdx.x == 0) out[fault ? 0 : blockIdx.x] = 1.f;
}

// A block reads what another one writes.
extern "C" __global__ void block_reads(float* out, int fault) {
    float value = out[fault ? threadIdx.x : blockIdx.x * 64 + threadIdx.x];
    out[blockIdx.x * 64 + threadIdx.x] = value;
}

// Halves of a word by neighbouring threads, which is right, or bytes of the neighbour's half.
extern "C" __global__ void halves(float* out, int fault) {
    unsigned short* all = reinterpret_cast<unsigned short*>(out);
    all[threadIdx.x] = 1;
    if (fault) reinterpret_cast<unsigned char*>(out)[(threadIdx.x * 2 + 3) % 128] = 1;
}

// An asynchronous copy is read before its thread has waited for it.
extern "C" __global__ void copy_not_waited_for(float* out, int fault) {
    __shared__ __align__(16) float values[256];
    standin::copy_later(values + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    standin::commit_copies();
    if (!fault) standin::wait_for_copies<0>();
    __syncthreads();
    float value = values[4 * (63 - threadIdx.x)];
    standin::wait_for_copies<0>();
    __syncthreads();
    out[4 * threadIdx.x] = value;
}

// An asynchronous copy begins where other threads may still read. In which order the threads run
// here, all have read by then.
extern "C" __global__ void copy_too_early(float* out, int fault) {
    __shared__ __align__(16) float values[256];
    values[4 * threadIdx.x] = out[4 * threadIdx.x];
    __syncthreads();
    float value = values[4 * (63 - threadIdx.x)];
    __syncwarp();
    if (!fault) __syncthreads();
    standin::copy_later(values + 4 * threadIdx.x, out + 4 * threadIdx.x, true);
    standin::commit_copies();
    standin::wait_for_copies<0>();
    __syncthreads();
    out[4 * threadIdx.x] = value;
}

extern "C" __global__ void __launch_bounds__(32 * 2, 4) bounded(float* out, int) {
    out[threadIdx.x] = 1.f;
}
