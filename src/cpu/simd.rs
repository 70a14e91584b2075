//! Loops compiled once for every vector instruction set and chosen at run time.
//!
//! A release build targets the oldest processor of its platform; the code under [`dispatch`] is compiled a second and
//! third time for AVX2 and AVX-512. Only the width of the instructions differs, not the order of a sum: results are the
//! same bits on all of them.

/// Runs `f` with the widest vector instructions of this machine. What `f` calls must be inlined into it to profit.
#[inline]
pub(crate) fn dispatch<F: pulp::NullaryFnOnce>(f: F) -> F::Output {
    pulp::Arch::new().dispatch(f)
}

/// A function generic over `T: Real` whose body is compiled for every instruction set.
///
/// Closures are inlined at the compiler's discretion, this body always is: use it for loops with exponentials, roots
/// and the like (`for` loops: `for_each` with a long closure becomes a call), and hand it whole rows or blocks, as each
/// call looks the instruction set up.
macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<T: $crate::cpu::Real>($($arg: $ty),*) $(-> $ret)? {
            #[allow(non_camel_case_types)]
            struct Call<$($arg),*>($($arg),*);
            impl<T: $crate::cpu::Real> pulp::NullaryFnOnce for Call<$($ty),*> {
                type Output = $crate::cpu::wide!(@output $($ret)?);
                #[inline(always)]
                fn call(self) -> Self::Output {
                    let Call($($arg),*) = self;
                    $body
                }
            }
            $crate::cpu::dispatch(Call($($arg),*))
        }
    };
    (@output) => { () };
    (@output $ret:ty) => { $ret };
}
pub(crate) use wide;
