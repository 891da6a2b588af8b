// The stand-in for libcuda.so.1: modules and launches, and what a kernel does wrong as a sentence.
#include "driver.hpp"
#include "run.hpp"
#include <csignal>
#include <dlfcn.h>
#include <unistd.h>

using namespace standin;

namespace {

struct sigaction previous;

void on_fault(int signal, siginfo_t* info, void* context) {
    char* address = static_cast<char*>(info->si_addr);
    if (!machine.inside) {
        if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
        sigaction(signal, &previous, nullptr);
        return;
    }
    std::string what = "an access outside of any buffer (or not aligned to its size)";
    if (const Buffer* b = memory.near(address)) {
        bool foreign = b->device != memory.open_device && address >= b->begin && address < b->end();
        if (foreign && context_of(memory.open_device).reaches[b->device]) {
            counters.peer_touched++;
            return memory.lend(*b);  // and the access is tried again
        }
        if (b->device != memory.open_device)
            what = "a pointer of device " + std::to_string(b->device) + " is used on device " +
                   std::to_string(memory.open_device);
        else if (address >= b->end())
            what = "an access " + std::to_string(address - b->end()) +
                   " bytes behind the end of a buffer of " + std::to_string(b->bytes) + " bytes";
        else
            what = "an access " + std::to_string(b->begin - address) +
                   " bytes before a buffer of " + std::to_string(b->bytes) + " bytes";
    }
    report(place() + ": " + what);
    siglongjmp(machine.escape, 1);
}

struct Signals {
    Signals() {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, &previous);
        struct sigaction ignored;
        sigaction(SIGBUS, &action, &ignored);
    }
};

struct Module {
    void* object;
    Kernel* kernels;
    char *shared, *shared_end;
    int device;
    std::string constants;  // with STANDIN_TIMELINE
};
struct Function {
    Kernel* kernel;
    Module* module;
    unsigned most_shared;  // that a launch may ask for; 48 KiB unless it is told otherwise
    std::string timed;     // with STANDIN_TIMELINE: name and constants
};

/// A GPU that stops answering. The lock stays taken: so do calls of a driver that waits for one.
/// Who has not given up by then never will.
void hang(const char* kernel) {
    static long launches = 0;
    if (strcmp(text_setting("STANDIN_HANG", ""), kernel)) return;
    if (++launches == setting("STANDIN_HANG_AT", 1)) {
        sleep(100);
        abort();
    }
}

int run_kernel(int device, const Function& function, dim3 blocks, dim3 threads,
               const std::vector<std::vector<char>>& values) {
    static Signals signals;
    static thread_local std::vector<char> signal_stack(64 << 10);
    stack_t stack = {signal_stack.data(), 0, signal_stack.size()}, before;
    sigaltstack(&stack, &before);
    std::vector<void*> parameters;
    for (auto& value : values) parameters.push_back(const_cast<char*>(value.data()));
    memory.open(device);
    std::string wrong;
    machine.inside = true;
    machine.memory = &memory;
    machine.races = races.on;
    volatile int result = SUCCESS;  // it outlives the jump out of a fault
    if (sigsetjmp(machine.escape, 1) == 0) {
        static Runtime** table;
        table = static_cast<Runtime**>(dlsym(function.module->object, "standin_runtime"));
        *table = &machine.runtime;
        wrong = run_grid(*function.kernel, parameters.data(), blocks, threads,
                         function.module->shared, function.module->shared_end);
        if (!wrong.empty()) {
            report(wrong);
            result = LAUNCH_FAILED;
        }
        if (races.on && wrong.empty()) {
            machine.blocks.intervals([&](char* begin, char* end, bool write) {
                if (result == SUCCESS) result = access(begin, end - begin, write);
            });
        }
    } else {
        result = ILLEGAL_ADDRESS;
    }
    machine.inside = false;
    sigaltstack(&before, nullptr);
    return result;
}

}  // namespace

/// For tests: how memory was accessed since the last call, the six numbers of Accesses::Totals.
extern "C" void standin_accesses(uint64_t* out) {
    Guard guard(lock);
    memcpy(out, &machine.accesses.totals, sizeof machine.accesses.totals);
    machine.accesses.totals = {};
}

void standin::forget_cells(char* buffer) { machine.blocks.forget(buffer); }

API cuModuleLoadData(Module** out, const char* image) {
    Guard guard(lock);
    const char *mark = "stand-in object ", *timed = "stand-in constants";
    if (timeline.on() && !strncmp(image, timed, strlen(timed)))
        return *out = new Module{nullptr, nullptr, nullptr, nullptr, current->device,
                                 image + strlen(timed)}, SUCCESS;
    if (strncmp(image, mark, strlen(mark))) return INVALID_IMAGE;
    void* object = dlopen(image + strlen(mark), RTLD_NOW | RTLD_LOCAL);
    if (!object) return report(dlerror()), INVALID_IMAGE;
    auto bound = [&](const char* name) {
        return reinterpret_cast<char* (*)()>(dlsym(object, name))();
    };
    *out = new Module{object, *static_cast<Kernel**>(dlsym(object, "standin_kernels")),
                      bound("standin_shared_begin"), bound("standin_shared_end"), current->device,
                      ""};
    return SUCCESS;
}
API cuModuleUnload(Module*) { return SUCCESS; }  // queued launches may still need it
API cuModuleGetFunction(Function** out, Module* module, const char* name) {
    if (timeline.on()) {
        *out = new Function{nullptr, module, 0, name + module->constants};
        return SUCCESS;
    }
    for (Kernel* k = module->kernels; k; k = k->next) {
        if (!strcmp(k->name, name)) return *out = new Function{k, module, 48 << 10, ""}, SUCCESS;
    }
    return NOT_FOUND;
}
API cuFuncSetAttribute(Function* function, int attribute, int value) {
    Guard guard(lock);
    const int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > 99 << 10)
        return INVALID_VALUE;
    function->most_shared = value;
    return SUCCESS;
}
API cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned dynamic_shared, void* stream,
                   void** parameters, void**) {
    Guard guard(lock);
    unsigned threads = bx * by * bz;
    if (!current) return INVALID_CONTEXT;
    if (timeline.on()) {
        counters.launches++;
        return enqueue(stream, "kernel " + function->timed, {}, [] { return int(SUCCESS); });
    }
    if (threads > function->kernel->most_threads)
        return report("kernel " + std::string(function->kernel->name) + " is launched with " +
                      std::to_string(threads) + " threads a block, and its launch bounds are " +
                      std::to_string(function->kernel->most_threads), INVALID_VALUE);
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || threads == 0 ||
        threads > 1024)
        return INVALID_VALUE;
    if (dynamic_shared > function->most_shared)
        return report("kernel " + std::string(function->kernel->name) + " asks for " +
                      std::to_string(dynamic_shared) + " bytes of shared memory, and " +
                      std::to_string(function->most_shared) + " are allowed", INVALID_VALUE);
    // What a kernel takes as its own here, it has to ask for on a GPU.
    size_t own = function->module->shared_end - function->module->shared;
    if (own > (48 << 10) && dynamic_shared < own) return INVALID_VALUE;
    int own_device = function->module->device;
    if (own_device != current->device || own_device != stream_of(stream)->device)
        return report("a kernel is launched on a stream of another context", INVALID_HANDLE);
    if (!strcmp(text_setting("STANDIN_FAIL_LAUNCH", ""), function->kernel->name))
        return LAUNCH_FAILED;
    std::vector<std::vector<char>> values;
    for (size_t i = 0; i < function->kernel->count; i++) {
        const char* p = static_cast<char*>(parameters[i]);
        values.emplace_back(p, p + function->kernel->sizes[i]);
    }
    int device = current->device;
    std::vector<uint64_t> addresses;
    for (auto& value : values) {
        // A pointer, or one of each tower.
        for (size_t at = 0; value.size() % 8 == 0 && at < value.size(); at += 8)
            memcpy(&addresses.emplace_back(), value.data() + at, 8);
    }
    std::string name = "kernel " + std::string(function->kernel->name);
    return enqueue(stream, name, addresses, [=, values = std::move(values)] {
        counters.launches++;
        hang(function->kernel->name);
        return run_kernel(device, *function, {gx, gy, gz}, {bx, by, bz}, values);
    });
}
