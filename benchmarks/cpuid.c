/* Preloaded by benchmarks/kernels.py: a process that believes it runs on a processor with fewer instructions (Linux, x86-64, where the
 * kernel and the processor can trap CPUID). SOUNDPROOF_LEVEL: "avx2" hides AVX-512 and AMX, "sse" also AVX, AVX2 and FMA. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int no_avx;

static void trap(int on) { syscall(SYS_arch_prctl, 0x1012 /* ARCH_SET_CPUID */, !on); }

static void answer(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)r[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) { signal(number, SIG_DFL); return; } /* a fault of its own: it happens again, and ends us */
    uint32_t a, b, c, d, leaf = (uint32_t)r[REG_RAX], sub = (uint32_t)r[REG_RCX];
    trap(0);
    __cpuid_count(leaf, sub, a, b, c, d);
    trap(1);
    if (leaf == 7 && sub == 0) {
        b &= ~((1u << 16) | (1u << 17) | (1u << 21) | (1u << 26) | (1u << 27) | (1u << 28) | (1u << 30) | (1u << 31));
        c &= ~((1u << 1) | (1u << 6) | (1u << 11) | (1u << 12) | (1u << 14));
        d &= ~((1u << 2) | (1u << 3) | (1u << 8) | (1u << 22) | (1u << 23) | (1u << 24) | (1u << 25));
        if (no_avx) { b &= ~(1u << 5); c &= ~((1u << 9) | (1u << 10)); }
    }
    if (leaf == 7 && sub == 1) a &= ~((1u << 4) | (1u << 5) | (1u << 21) | (1u << 23));
    if (leaf == 1 && no_avx) c &= ~((1u << 12) | (1u << 28) | (1u << 29));
    r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d, r[REG_RIP] += 2;
}

__attribute__((constructor)) static void start(void) {
    const char *level = getenv("SOUNDPROOF_LEVEL");
    if (!level) return;
    no_avx = strcmp(level, "sse") == 0;
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    trap(1);
}
